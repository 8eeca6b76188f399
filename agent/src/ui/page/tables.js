// The same as the picture, as tables: sorted by a press on a title, and good for those who see no picture.

import { el, write, rate, packets, short, bytes, busy, published, opened, byPlace, pathOf } from "./dom.js";

// Rows that are shown until all are asked for.
const FIRST = 100;

// A table that keeps its elements, so that what stays does not move under a pointer or a reader.
export class Sheet {
  constructor(place, caption, columns, sorted, empty) {
    this.columns = columns;
    this.column = sorted;
    this.downwards = Boolean(columns[sorted].number);
    this.rows = new Map();
    this.all = false;
    this.body = el("tbody");
    this.titles = columns.map((column, index) => {
      const button = el("button", { type: "button" }, column.title);
      button.addEventListener("click", () => this.sort(index));
      return el("th", { scope: "col", class: column.number ? "number" : null }, button);
    });
    const head = el("thead", {}, el("tr", {}, ...this.titles));
    this.table = el("table", {}, el("caption", { class: "unseen" }, caption), head, this.body);
    this.empty = el("p", { class: "hint" }, empty);
    this.more = el("button", { type: "button", class: "more" });
    this.more.addEventListener("click", () => {
      this.all = true;
      this.show(this.items);
    });
    this.cut = el("p", { class: "hint" });
    place.append(this.cut, this.table, this.empty, this.more);
    this.show([]);
  }

  sort(index) {
    this.downwards = this.column === index ? !this.downwards : Boolean(this.columns[index].number);
    this.column = index;
    this.show(this.items);
  }

  // `cut` says what there is besides and is not among the items.
  show(items, cut = this.cut.textContent) {
    this.items = items;
    write(this.cut, cut);
    const { value } = this.columns[this.column];
    const order = this.downwards ? -1 : 1;
    const sorted = [...items].sort((a, b) => {
      const [x, y] = [value(a), value(b)];
      const compared = typeof x === "number" ? x - y : String(x).localeCompare(String(y));
      return compared * order || (a.key < b.key ? -1 : Number(a.key > b.key));
    });
    const shown = this.all ? sorted : sorted.slice(0, FIRST);
    const before = this.rows;
    this.rows = new Map();
    // Two of one key would share an element, and leave another one behind that nobody removes.
    const times = new Map();
    shown.forEach((item, index) => {
      const time = times.get(item.key) || 0;
      times.set(item.key, time + 1);
      const key = time ? `${item.key}\n${time}` : item.key;
      const row = before.get(key) || this.row();
      before.delete(key);
      this.rows.set(key, row);
      this.fill(row, item);
      if (this.body.children[index] !== row.node) {
        this.body.insertBefore(row.node, this.body.children[index] || null);
      }
    });
    before.forEach((row) => row.node.remove());
    this.titles.forEach((title, index) => {
      const way = this.downwards ? "descending" : "ascending";
      if (index === this.column) title.setAttribute("aria-sort", way);
      else title.removeAttribute("aria-sort");
    });
    this.table.hidden = items.length === 0;
    this.empty.hidden = items.length !== 0;
    this.more.hidden = shown.length === sorted.length;
    write(this.more, `Show all ${sorted.length}`);
  }

  row() {
    const cells = this.columns.map((column, index) => {
      const inner = column.link ? el("a") : null;
      const name = index === 0 ? "th" : "td";
      const attributes = { class: column.number ? "number" : null, scope: index ? null : "row" };
      const cell = el(name, attributes, inner);
      return { cell, inner: inner || cell };
    });
    return { node: el("tr", {}, ...cells.map(({ cell }) => cell)), cells };
  }

  fill(row, item) {
    this.columns.forEach((column, index) => {
      const { cell, inner } = row.cells[index];
      write(inner, column.text(item));
      if (column.link) {
        const to = column.link(item);
        if (to) inner.setAttribute("href", to);
        else inner.removeAttribute("href");
      }
      if (column.alarm) cell.classList.toggle("alarm", column.alarm(item));
      if (column.number) cell.classList.toggle("quiet", column.value(item) === 0);
    });
  }
}

const word = (title, get, more = {}) => ({ title, value: get, text: get, ...more });
const number = (title, value, text, more = {}) => ({ title, value, text, number: true, ...more });

const dropColumns = [
  word("Reason", (d) => d.Reason, { alarm: () => true }),
  word("Way", (d) => d.Direction),
  number("Now", (d) => d.Dropped.PacketRate || 0, (d) => packets(d.Dropped)),
  number("Packets", (d) => d.Dropped.Packets, (d) => String(d.Dropped.Packets)),
  number("Bytes", (d) => d.Dropped.Bytes, (d) => bytes(d.Dropped.Bytes)),
  word("What it means", (d) => d.Explanation),
];

export function endpointSheet(place) {
  return new Sheet(
    place,
    "Endpoints, with what each receives and sends",
    [
      word("Container", (e) => e.Container, { link: pathOf }),
      word("Network", (e) => e.Network),
      word("Addresses", (e) => e.Addresses.join(" ")),
      number("In", (e) => e.Received.ByteRate || 0, (e) => rate(e.Received)),
      number("Out", (e) => e.Sent.ByteRate || 0, (e) => rate(e.Sent)),
      number("Packets in", (e) => e.Received.PacketRate || 0, (e) => packets(e.Received)),
      number("Packets out", (e) => e.Sent.PacketRate || 0, (e) => packets(e.Sent)),
      number("Drops", (e) => e.Dropped.PacketRate || 0, (e) => packets(e.Dropped), {
        alarm: (e) => e.Dropped.PacketRate > 0,
      }),
      number("Connections", (e) => e.Connections, (e) => String(e.Connections)),
    ],
    3,
    "No endpoint.",
  );
}

export function dropSheet(place, ofAll) {
  const who = word("Container", (d) => d.who, { link: (d) => d.to });
  const columns = ofAll ? [who, ...dropColumns] : dropColumns;
  return new Sheet(place, "Drops, with reasons", columns, ofAll ? 3 : 2, "Nothing was dropped.");
}

export function portSheet(place) {
  return new Sheet(
    place,
    "Published ports",
    [
      word("Host", (p) => `${published(p)}/${p.Proto}`),
      word("Container", (p) => p.Container, { link: (p) => p.to }),
      word("Port", (p) => p.ContainerPort),
      number("In", (p) => p.Received.ByteRate || 0, (p) => rate(p.Received)),
      number("Out", (p) => p.Sent.ByteRate || 0, (p) => rate(p.Sent)),
      number("Open", (p) => p.Active, (p) => String(p.Active)),
      number("Opened", (p) => p.Opened, (p) => short(p.Opened)),
    ],
    3,
    "No port is published.",
  );
}

export function connectionSheet(place) {
  return new Sheet(
    place,
    "Connections",
    [
      word("Protocol", (c) => c.Proto),
      word("From", (c) => `${c.From} ${c.Source}`),
      word("To", (c) => `${c.To} ${c.Destination}`),
      word("State", (c) => c.State),
      number("Idle", (c) => -c.IdleSeconds, (c) => `${c.IdleSeconds} s`),
    ],
    4,
    "No connection is tracked; within a network none is.",
  );
}

export function linkSheet(place) {
  return new Sheet(
    place,
    "Links: which container may reach which",
    [
      word("Container", (l) => l.From, { link: (l) => l.client && pathOf(l.client) }),
      word("May reach", (l) => l.To, { link: (l) => l.server && pathOf(l.server) }),
      word("Ports", opened),
      word("Network", (l) => l.Network),
    ],
    0,
    "No link.",
  );
}

// The links of one endpoint: whom it reaches, and who reaches it.
export function peerSheet(place) {
  return new Sheet(
    place,
    "Links of this endpoint",
    [
      word("Way", (l) => l.way),
      word("Container", (l) => l.peer.Container, { link: (l) => pathOf(l.peer) }),
      word("Ports", opened),
    ],
    0,
    "No link.",
  );
}

export function networkSheet(place) {
  return new Sheet(
    place,
    "Networks",
    [
      word("Network", (n) => n.Name),
      word("Subnets", (n) => n.Subnets.join(" ")),
      word("Bridge", (n) => n.Bridge),
      word("Internal", (n) => (n.Internal ? "yes" : "no")),
      word("ICC", (n) => (n.Icc ? "on" : "off")),
      number("Endpoints", (n) => n.own.length, (n) => String(n.own.length)),
      number("In and out", (n) => n.busy, (n) => `${bytes(n.busy)}/s`),
    ],
    6,
    "No network.",
  );
}

export function uplinkSheet(place) {
  const columns = [word("Interface", (u) => u.Name), word("Addresses", (u) => u.Addresses.join(" "))];
  return new Sheet(place, "Uplinks", columns, 0, "No interface leads out of the host.");
}

export const keyedNetworks = (traffic) =>
  traffic.Networks.map((n) => {
    const own = traffic.Endpoints.filter((e) => e.Network === n.Name);
    return { ...n, own, busy: own.reduce((sum, e) => sum + busy(e), 0), key: n.Name };
  });

export function keyedLinks(traffic) {
  const at = byPlace(traffic.Endpoints);
  return traffic.Links.map((l) => ({
    ...l,
    client: at(l.From, l.Network),
    server: at(l.To, l.Network),
    key: `${l.From} ${l.To} ${l.Network}`,
  }));
}

// The same, seen from an endpoint.
export const peersOf = (endpoint, traffic) =>
  keyedLinks(traffic).flatMap((l) => {
    const seen = (way, own, peer) => (own?.Id === endpoint.Id && peer ? [{ ...l, way, peer, key: `${way} ${l.key}` }] : []);
    return [...seen("reaches", l.client, l.server), ...seen("is reached by", l.server, l.client)];
  });

export const keyedDrops = (drops, who, to) =>
  drops.map((d) => ({ ...d, who, to, key: `${who} ${to} ${d.Direction} ${d.Reason}` }));


