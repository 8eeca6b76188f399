// The topology: outside, host with its published ports, networks with their endpoints. It is laid out anew when
// something comes or goes; else its numbers change where they stand.

import { el, svg, write, rate, packets, busy, bytes, published, opened, pathOf } from "./dom.js";

const HOST = { width: 232, gap: 84 };
const CHIP = { width: 172, height: 48, gap: 12 };
const DOT = { size: 14, gap: 4 };
// What stands at the left of everything where the host stands above its networks: wires run down there.
const GUTTER = 30;
const PAD = 14;
const HEAD = 34;
const PILL = 26;
// Endpoints of a network that have a chip of their own; ports that have a pill, and uplinks that have a line.
const CHIPS = 48;
const PILLS = 16;
const UPLINKS = 4;

const thickness = (bytesPerSecond) => (1.25 + Math.log10(1 + (bytesPerSecond || 0)) / 1.7).toFixed(2);
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
const text = (x, y, kind, content) => svg("text", { x, y, class: kind }, content);

function curve(x1, y1, x2, y2) {
  const middle = (x1 + x2) / 2;
  return `M${x1} ${y1}C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
}

// Out to the left, down the gutter, and in again.
const around = (x1, y1, gutter, x2, y2) =>
  `M${x1} ${y1}H${gutter + 6}Q${gutter} ${y1} ${gutter} ${y1 + 6}V${y2 - 6}Q${gutter} ${y2} ${gutter + 6} ${y2}H${x2}`;

export class Picture {
  constructor(place) {
    this.place = place;
    this.sign = "";
    this.live = [];
    new ResizeObserver(() => this.last && this.show(...this.last)).observe(place);
  }

  show(traffic, found) {
    this.last = [traffic, found];
    const width = Math.max(320, Math.floor(this.place.clientWidth));
    const ids = found.endpoints.map((e) => e.Id).join();
    const ports = this.busiest(found.ports).map((p) => p.key).join();
    const links = traffic.Links.map((l) => `${l.From} ${l.To} ${l.Network} ${l.Ports}`).join();
    const rest = JSON.stringify([traffic.Networks, traffic.Uplinks, found.searched, found.ports.length, traffic.PortsTotal]);
    const sign = [width, ids, ports, links, rest].join("|");
    if (sign !== this.sign) {
      this.sign = sign;
      this.lay(traffic, found, width);
    }
    this.update(traffic, found);
  }

  // The ports that have a pill: which they are follows the traffic slowly, so that pills do not jump about.
  busiest(ports) {
    if (ports.length <= PILLS) return ports;
    const kept = new Set(this.pills || []);
    const open = (p) => (kept.has(p.key) ? 1 : 0) + (p.Received.Bytes + p.Sent.Bytes > 0 ? 2 : 0);
    const chosen = [...ports].sort((a, b) => open(b) - open(a)).slice(0, PILLS);
    this.pills = chosen.map((p) => p.key);
    return ports.filter((p) => this.pills.includes(p.key));
  }

  lay(traffic, found, width) {
    const narrow = width < 720;
    const left = narrow ? GUTTER : HOST.width + HOST.gap;
    const place = narrow ? { x: GUTTER, width: width - GUTTER } : { x: 0, width: HOST.width };
    this.chips = new Map();
    this.live = [];
    const edges = svg("g", { class: "edges", "aria-hidden": "true" });
    const panels = svg("g");
    // Wires to endpoints run over the panels, and under what they lead to.
    const wires = svg("g", { class: "edges", "aria-hidden": "true" });
    const chips = svg("g");
    const host = this.host(panels, edges, traffic, found, place);
    let y = narrow ? host.bottom + 18 : 0;
    let networks = 0;
    const of = Map.groupBy
      ? Map.groupBy(found.endpoints, (e) => e.Network)
      : found.endpoints.reduce((m, e) => m.set(e.Network, [...(m.get(e.Network) || []), e]), new Map());
    for (const network of traffic.Networks) {
      const own = of.get(network.Name) || [];
      if (found.searched && own.length === 0 && !found.names(network)) continue;
      const height = this.panel([panels, chips], network, own, left, y, width - left);
      const at = y + HEAD / 2;
      const trunk = narrow ? around(left, host.at, 8, left, at) : curve(HOST.width, host.at, left, at);
      const total = (state) => (state.of.get(network.Name) || []).reduce((a, e) => a + busy(e), 0);
      this.edge(edges, trunk, network.Internal ? "trunk internal" : "trunk", total);
      networks += 1;
      y += height + 18;
    }
    for (const { port, x, y: at } of host.pills) this.wire(wires, port, x, at, left, narrow);
    this.links(wires, traffic);
    const height = Math.max(y, host.bottom + 8, 60);
    const picture = svg(
      "svg",
      { width, height, viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": "Picture of the topology; the tables below say the same" },
      edges,
      panels,
      wires,
      chips,
    );
    // What had the focus has it again.
    const focused = this.place.contains(document.activeElement)
      ? document.activeElement.getAttribute("href")
      : null;
    this.place.replaceChildren(picture);
    if (focused) this.place.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    if (networks === 0) this.place.append(el("p", { class: "hint" }, "No network."));
  }

  panel([into, chips], network, own, x, y, width) {
    const inner = width - 2 * PAD;
    const dots = own.length > CHIPS;
    const step = dots ? DOT.size + DOT.gap : CHIP.width + CHIP.gap;
    const columns = Math.max(1, Math.floor((inner + (dots ? DOT.gap : CHIP.gap)) / step));
    const rowHeight = dots ? step : CHIP.height + CHIP.gap;
    const rows = Math.ceil(own.length / columns);
    const height = HEAD + (rows ? rows * rowHeight + PAD - (dots ? DOT.gap : CHIP.gap) : 10) + 4;
    const group = svg("g", { class: network.Internal ? "network internal" : "network" });
    group.append(svg("rect", { class: "panel", x: x + 0.5, y: y + 0.5, width: width - 1, height: height - 1, rx: 10 }));
    group.append(text(x + PAD, y + 22, "network-name", cut(network.Name, 28)));
    const notes = [network.Subnets.join(" ")];
    if (network.Internal) notes.push("internal");
    if (!network.Icc) notes.push("ICC off");
    const sum = text(x + width - PAD, y + 22, "note end", "");
    // As wide as letters of such a size mostly are.
    const taken = 8 * Math.min(network.Name.length, 28) + 6.5 * (notes.join("").length + 40);
    this.live.push((state) => {
      const total = (state.of.get(network.Name) || []).reduce((a, e) => a + busy(e), 0);
      write(sum, width < taken ? `${bytes(total)}/s` : [...notes, `${own.length} endpoint${own.length === 1 ? "" : "s"}`, `${bytes(total)}/s`].join("  ·  "));
    });
    group.append(sum);
    own.forEach((endpoint, index) => {
      const cx = x + PAD + (index % columns) * step;
      const cy = y + HEAD + Math.floor(index / columns) * rowHeight;
      chips.append(dots ? this.dot(endpoint, cx, cy) : this.chip(endpoint, cx, cy));
    });
    into.append(group);
    return height;
  }

  chip(endpoint, x, y) {
    const flow = text(x + 12, y + 37, "rates", "");
    const mark = svg("circle", { class: "mark", cx: x + CHIP.width - 14, cy: y + 15, r: 4 });
    const bar = svg("rect", { class: "bar", x, y: y + 8, width: 3, height: CHIP.height - 16, rx: 1.5 });
    const title = svg("title", {}, "");
    const node = svg(
      "a",
      { href: pathOf(endpoint), class: "chip", "aria-label": `${endpoint.Container} on ${endpoint.Network}` },
      title,
      svg("rect", { class: "box", x: x + 0.5, y: y + 0.5, width: CHIP.width - 1, height: CHIP.height - 1, rx: 8 }),
      bar,
      text(x + 12, y + 20, "name", cut(endpoint.Container, 19)),
      flow,
      mark,
    );
    this.register(endpoint, { x, y, width: CHIP.width, height: CHIP.height, below: 7 });
    this.live.push((state) => {
      const now = state.ids.get(endpoint.Id);
      if (!now) return;
      write(flow, `↓ ${rate(now.Received)}  ↑ ${rate(now.Sent)}`);
      write(title, `${now.Container} ${now.Addresses.join(" ")}: dropped ${packets(now.Dropped)}`);
      node.classList.toggle("dropping", now.Dropped.PacketRate > 0);
      bar.setAttribute("opacity", Math.min(1, Math.log10(1 + busy(now)) / 7).toFixed(2));
    });
    return node;
  }

  // A container has a place on each of its networks.
  register(endpoint, place) {
    this.chips.set(endpoint.Id, place);
    this.chips.set(`${endpoint.Container} ${endpoint.Network}`, place);
  }

  dot(endpoint, x, y) {
    const title = svg("title", {}, endpoint.Container);
    const box = svg("rect", { class: "spot", x, y, width: DOT.size, height: DOT.size, rx: 3 });
    // A thousand stops for the tabulator key would be none: the table has them all.
    const node = svg(
      "a",
      { href: pathOf(endpoint), class: "chip", tabindex: -1, "aria-label": `${endpoint.Container} on ${endpoint.Network}` },
      title,
      svg("rect", { class: "spot ground", x, y, width: DOT.size, height: DOT.size, rx: 3 }),
      box,
    );
    this.register(endpoint, { x, y, width: DOT.size, height: DOT.size, below: 2 });
    this.live.push((state) => {
      const now = state.ids.get(endpoint.Id);
      if (!now) return;
      write(title, `${now.Container}: in ${rate(now.Received)}, out ${rate(now.Sent)}`);
      node.classList.toggle("dropping", now.Dropped.PacketRate > 0);
      box.setAttribute("opacity", Math.min(1, 0.12 + Math.log10(1 + busy(now)) / 8).toFixed(2));
    });
    return node;
  }

  host(into, edges, traffic, found, { x, width }) {
    const top = 74;
    const ports = this.busiest(found.ports);
    const uplinks = traffic.Uplinks.slice(0, UPLINKS);
    const pills = [];
    let y = top + 34;
    const group = svg("g", { class: "host" });
    const box = svg("rect", { class: "panel", x: x + 0.5, y: top + 0.5, width: width - 1, rx: 10 });
    group.append(
      svg("rect", { class: "outside", x: x + 0.5, y: 0.5, width: width - 1, height: 39, rx: 19 }),
      text(x + width / 2, 25, "name middle", "Outside"),
      box,
      text(x + PAD, top + 22, "network-name", "Host"),
    );
    const note = (content) => {
      group.append(text(x + PAD, y + 10, "note", cut(content, Math.floor((width - 2 * PAD) / 6))));
      y += 18;
    };
    for (const uplink of uplinks) note(`${uplink.Name} ${uplink.Addresses.join(" ")}`);
    if (traffic.Uplinks.length > UPLINKS) note(`and ${traffic.Uplinks.length - UPLINKS} more uplinks`);
    y += 10;
    for (const port of ports) {
      group.append(this.pill(port, x, y, width));
      pills.push({ port, x: width > HOST.width ? x + 10 : x + width - 10, y: y + PILL / 2 });
      y += PILL + 6;
    }
    const told = found.searched ? found.ports.length : traffic.PortsTotal;
    if (told > ports.length) note(`and ${told - ports.length} more ports`);
    box.setAttribute("height", y + 8 - top);
    this.edge(edges, curve(x + width / 2, 40, x + width / 2, top), "trunk", (state) => state.outside);
    into.append(group);
    return { bottom: y + 8, at: top + 17, pills };
  }

  pill(port, x, y, width) {
    const label = `${published(port)}/${port.Proto}`;
    return svg(
      "a",
      { href: port.to, class: "chip pill", "aria-label": `Port ${label}, to ${port.Container}` },
      svg("title", {}, `${label} leads to port ${port.ContainerPort} of ${port.Container}`),
      svg("rect", { class: "box", x: x + 10.5, y: y + 0.5, width: width - 21, height: PILL - 1, rx: 13 }),
      text(x + 22, y + 17, "port", cut(label, 30)),
    );
  }

  // From a port's pill to the endpoint that it leads to.
  wire(wires, port, x1, y1, left, narrow) {
    const to = port.endpoint && this.chips.get(port.endpoint.Id);
    if (!to) return;
    // What stands behind another one is reached from below.
    const [x2, y2] = [to.x + Math.min(24, to.width / 2), to.y + to.height];
    const up = `H${x2 - 8}Q${x2} ${y2 + to.below} ${x2} ${y2}`;
    let path = curve(x1, y1, to.x, to.y + to.height / 2);
    if (narrow) path = around(x1, y1, 20, left, y2 + to.below) + up;
    else if (to.x > left + PAD)
      path = `M${x1} ${y1}C${x1 + 60} ${y1} ${x1 + 60} ${y2 + to.below} ${x1 + 130} ${y2 + to.below}${up}`;
    this.edge(wires, path, "port", (state) => state.ports.get(port.key));
  }

  links(wires, traffic) {
    for (const link of traffic.Links) {
      const place = (container) => this.chips.get(`${container} ${link.Network}`);
      const [from, to] = [place(link.From), place(link.To)];
      if (!from || !to) continue;
      const end = ({ x, y, width, height }) => [x + width / 2, y + height];
      const [[x1, y1], [x2, y2]] = [end(from), end(to)];
      const sag = Math.max(y1, y2) + 9;
      const path = svg("path", { class: "link", d: `M${x1} ${y1}C${x1} ${sag} ${x2} ${sag} ${x2} ${y2}` });
      path.append(svg("title", {}, `${link.From} may reach ${link.To}: ${opened(link)}`));
      wires.append(path, svg("circle", { class: "link-end", cx: x2, cy: y2, r: 3.5 }));
    }
  }

  edge(edges, path, kind, of) {
    const node = svg("path", { class: kind, d: path });
    edges.append(node);
    this.live.push((state) => node.setAttribute("stroke-width", thickness(of(state))));
  }

  update(traffic, found) {
    const state = { ids: new Map(), of: new Map(), ports: new Map(), outside: 0 };
    for (const endpoint of traffic.Endpoints) {
      state.ids.set(endpoint.Id, endpoint);
      if (!state.of.has(endpoint.Network)) state.of.set(endpoint.Network, []);
      state.of.get(endpoint.Network).push(endpoint);
    }
    for (const port of found.ports) {
      const total = (port.Received.ByteRate || 0) + (port.Sent.ByteRate || 0);
      state.ports.set(port.key, total);
      state.outside += total;
    }
    this.live.forEach((update) => update(state));
  }
}
