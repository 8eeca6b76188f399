// An endpoint's page: what it is, what it has carried in the last minutes, what was dropped, whom it talks to.

import { el, svg, write, bytes, short, someConnections, somePorts } from "./dom.js";
import { dropSheet, portSheet, peerSheet, connectionSheet, keyedDrops, peersOf } from "./tables.js";

const WIDTH = 640;
const HEIGHT = 110;
// Seconds from which on a reading is not of now any more.
const LATE = 3;

class Chart {
  constructor(place, name, kind, unit) {
    this.name = name;
    this.unit = unit;
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    this.most = svg("text", { x: 4, y: 13, class: "note" }, "");
    this.now = el("strong", {}, "");
    this.picture = svg(
      "svg",
      { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: `chart ${kind}`, role: "img", preserveAspectRatio: "none" },
      svg("path", { class: "axis", d: `M0 ${HEIGHT - 0.5}H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}` }),
      this.area,
      this.line,
    );
    this.scale = el("span", { class: "note" }, "");
    const caption = el("figcaption", {}, `${name} `, this.now, " ", this.scale);
    this.since = el("span", {}, "");
    const span = el("p", { class: "note ends" }, this.since, el("span", {}, "now"));
    place.append(el("figure", {}, caption, this.picture, span));
  }

  // Points are seconds ago and a value, the oldest first.
  show(points, span) {
    const values = points.map(([, value]) => value);
    const top = Math.max(...values, 0);
    // A reading of the last seconds is now: an edge that comes and goes with each would only be in the way.
    const last = points.length ? points[points.length - 1][0] : 0;
    const late = last < LATE ? last : 0;
    // A short history has a minute of room, a longer one as many as it needs.
    const oldest = points.length ? points[0][0] - late : 0;
    const room = Math.min(span, Math.max(60, Math.ceil(oldest / 60) * 60));
    const since = room === 60 ? "1 minute" : `${room / 60} minutes`;
    write(this.since, `${since} ago`);
    const at = (value) => (HEIGHT - 1 - (top > 0 ? (value / top) * (HEIGHT - 10) : 0)).toFixed(1);
    const x = (age) => (WIDTH * (1 - (age - late) / room)).toFixed(1);
    const line = points.length ? `M${points.map(([age, value]) => `${x(age)} ${at(value)}`).join("L")}` : "";
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", line && `${line}L${x(last)} ${HEIGHT}L${x(points[0][0])} ${HEIGHT}Z`);
    const now = this.unit(values.length ? values[values.length - 1] : 0);
    write(this.now, now);
    write(this.scale, `most ${this.unit(top)}`);
    this.picture.setAttribute("aria-label", `${this.name}: now ${now}, most ${this.unit(top)} in the last ${since}`);
  }
}

export class EndpointPage {
  constructor(place) {
    this.place = place;
    this.id = null;
  }

  // Makes the page of an endpoint; its numbers come with `show`.
  open(id) {
    this.id = id;
    const region = (title, name) => {
      const heading = `h-${name}`;
      const inner = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-labelledby": heading });
      const section = el("section", { "aria-labelledby": heading }, el("h3", { id: heading }, title), inner);
      return { section, inner };
    };
    this.title = el("h2", { tabindex: -1, id: "h-endpoint" }, "Endpoint");
    this.facts = el("dl", { class: "facts" });
    const charts = el("div", { class: "charts" });
    const [drops, ports, links, connections] = [
      region("Drops", "e-drops"),
      region("Published ports", "e-ports"),
      region("Links", "e-links"),
      region("Connections", "e-connections"),
    ];
    this.place.replaceChildren(
      el("p", {}, el("a", { href: "#/", class: "back" }, "← All endpoints")),
      this.title,
      this.facts,
      el("section", { "aria-labelledby": "h-history" }, el("h3", { id: "h-history" }, "The last minutes"), charts),
      drops.section,
      ports.section,
      links.section,
      connections.section,
    );
    const perSecond = (number) => `${bytes(number)}/s`;
    this.charts = [
      new Chart(charts, "In", "in", perSecond),
      new Chart(charts, "Out", "out", perSecond),
      new Chart(charts, "Dropped", "dropped", (number) => `${short(number)} packets/s`),
    ];
    this.drops = dropSheet(drops.inner, false);
    this.ports = portSheet(ports.inner);
    this.links = peerSheet(links.inner);
    this.connections = connectionSheet(connections.inner);
    this.title.focus();
  }

  gone() {
    write(this.title, "This endpoint is not there");
    document.title = "Bascule";
  }

  show(page, traffic) {
    const { Endpoint: e, History: history } = page;
    const network = traffic.Networks.find((n) => n.Name === e.Network);
    write(this.title, `${e.Container} on ${e.Network}`);
    document.title = `${e.Container} – Bascule`;
    const notes = [network?.Subnets.join(" "), network?.Internal && "internal", network?.Icc === false && "ICC off"];
    const facts = [
      ["Network", [e.Network, ...notes.filter(Boolean)].join(", ")],
      ["Addresses", e.Addresses.join(" ")],
      ["Ethernet address", e.Mac],
      ["Interface", `${e.Interface}, on the host ${e.HostInterface}`],
      ["Container", e.ContainerId],
      ["Received", `${short(e.Received.Packets)} packets, ${bytes(e.Received.Bytes)}`],
      ["Sent", `${short(e.Sent.Packets)} packets, ${bytes(e.Sent.Bytes)}`],
      ["Dropped", `${short(e.Dropped.Packets)} packets`],
    ];
    if (!this.facts.children.length) {
      this.facts.append(...facts.map(([name]) => el("div", {}, el("dt", {}, name), el("dd"))));
    }
    facts.forEach(([, value], index) => write(this.facts.children[index].lastChild, value));
    this.charts.forEach((chart, index) => {
      chart.show(history.Points.map(([age, ...values]) => [age, values[index]]), history.Span);
    });
    this.drops.show(keyedDrops(e.Drops, e.Container, null));
    const ports = page.Ports.map((p) => ({ ...p, key: `${p.HostIp} ${p.HostPort} ${p.Proto}` }));
    this.ports.show(ports, somePorts(traffic));
    this.links.show(peersOf(e, traffic));
    const list = page.Connections.Connections;
    const connections = list.map((c) => ({ ...c, key: `${c.Proto} ${c.Source} ${c.Destination}` }));
    this.connections.show(connections, someConnections(page.Connections));
  }
}
