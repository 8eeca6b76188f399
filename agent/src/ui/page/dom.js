// Elements and numbers. What comes from the agent becomes text and attributes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

export const el = (name, attributes = {}, ...children) =>
  filled(document.createElement(name), attributes, children);

export const svg = (name, attributes = {}, ...children) =>
  filled(document.createElementNS(SVG, name), attributes, children);

// Writes a text only where it is another one: what stays is neither laid out nor read out again.
export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function short(number) {
  let unit = 0;
  let left = Math.max(0, number || 0);
  while (left >= 999.5 && unit < 5) {
    left /= 1000;
    unit += 1;
  }
  const decimals = left < 9.95 && (unit > 0 || left % 1 >= 0.05) ? 1 : 0;
  return left.toFixed(decimals) + ["", "k", "M", "G", "T", "P"][unit];
}

export const bytes = (number) => {
  const text = short(number);
  const unit = /[a-zA-Z]$/.test(text) ? text.slice(-1) : "";
  return `${unit ? text.slice(0, -1) : text} ${unit}B`;
};

export const rate = (amount) => `${bytes(amount.ByteRate)}/s`;
export const packets = (amount) => `${short(amount.PacketRate)}/s`;

export const published = (port) =>
  `${port.HostIp.includes(":") ? `[${port.HostIp}]` : port.HostIp}:${port.HostPort}`;

export const opened = (link) => link.Ports.join(" ") || "no port";

export const pathOf = (endpoint) => `#/endpoint/${encodeURIComponent(endpoint.Id)}`;

export const busy = (endpoint) => (endpoint.Received.ByteRate || 0) + (endpoint.Sent.ByteRate || 0);

// An endpoint by its container and network, as ports and links name it.
export const byPlace = (endpoints) => {
  const places = new Map(endpoints.map((e) => [`${e.Container} ${e.Network}`, e]));
  return (container, network) => places.get(`${container} ${network}`);
};

// What is said where not all of something is there to be shown or searched.
export const cutOff = (shown, total, which) => (total > shown ? `Only ${shown} of ${total} ${which} are listed, searched and sorted.` : "");

export const someConnections = ({ Connections: list, Total: total }) =>
  cutOff(list.length, total, "connections, those used last,");
export const somePorts = ({ Ports: list, PortsTotal: total }) =>
  cutOff(list.length, total, "published ranges, those that have carried most,");
