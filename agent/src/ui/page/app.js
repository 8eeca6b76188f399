// Asks the agent again and again, finds what is searched for, and shows the overview or an endpoint's page.

import { write, bytes, short, byPlace, somePorts, pathOf } from "./dom.js";
import {
  endpointSheet,
  dropSheet,
  portSheet,
  linkSheet,
  networkSheet,
  uplinkSheet,
  keyedDrops,
  keyedLinks,
  keyedNetworks,
} from "./tables.js";
import { Picture } from "./picture.js";
import { EndpointPage } from "./endpoint.js";

const PAUSE = 1000;
// With more endpoints than this the page asks half as often.
const MANY = 300;

const at = (id) => document.getElementById(id);
const picture = new Picture(at("picture"));
const endpoints = endpointSheet(at("endpoints"));
const drops = dropSheet(at("drops"), true);
const ports = portSheet(at("ports"));
const links = linkSheet(at("links"));
const networks = networkSheet(at("networks"));
const uplinks = uplinkSheet(at("uplinks"));
const page = new EndpointPage(at("detail"));
const search = at("search");
let traffic = null;
let asking = 0;

// The endpoint that the address names, if it names one.
function named() {
  const [, id] = location.hash.match(/^#\/endpoint\/(.+)$/) || [];
  try {
    return id ? decodeURIComponent(id) : null;
  } catch {
    return null;
  }
}

async function ask(path) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(10000) });
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
  return answer.json();
}

function say(text) {
  at("state").hidden = text === "";
  write(at("state"), text);
}

function summary() {
  const sum = (of) => traffic.Endpoints.reduce((total, e) => total + (of(e) || 0), 0);
  const dropped = sum((e) => e.Dropped.PacketRate) + traffic.Drops.reduce((a, d) => a + (d.Dropped.PacketRate || 0), 0);
  write(at("sum-endpoints"), String(traffic.Endpoints.length));
  write(at("sum-in"), `${bytes(sum((e) => e.Received.ByteRate))}/s`);
  write(at("sum-out"), `${bytes(sum((e) => e.Sent.ByteRate))}/s`);
  write(at("sum-drops"), `${short(dropped)}/s`);
  at("sum-drops").classList.toggle("alarm", dropped > 0);
  write(at("sum-connections"), String(traffic.Connections));
}

// What contains every word that is searched for.
function find() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  const has = (texts) => {
    const all = texts.join("\n").toLowerCase();
    return words.every((word) => all.includes(word));
  };
  const of = byPlace(traffic.Endpoints);
  const keyed = traffic.Ports.map((p) => {
    const endpoint = of(p.Container, p.Network);
    return { ...p, endpoint, to: endpoint && pathOf(endpoint), key: `${p.HostIp} ${p.HostPort} ${p.Proto}` };
  });
  const found = keyed.filter((p) => has([p.Container, p.Network, p.HostIp, p.HostPort, p.Proto, p.ContainerPort]));
  const behind = new Set(found.map((p) => p.endpoint?.Id));
  const matches = (e) => has([e.Container, e.Network, e.Id, e.ContainerId, e.Mac, ...e.Addresses]) || behind.has(e.Id);
  const names = (network) => has([network.Name, ...network.Subnets]);
  const list = traffic.Endpoints.filter(matches).map((e) => ({ ...e, key: e.Id }));
  const peopled = new Set(list.map((e) => e.Network));
  return {
    searched: words.join(" "),
    endpoints: list,
    ports: found,
    drops: allDrops().filter((d) => has([d.who, d.Reason, d.Direction])),
    links: keyedLinks(traffic).filter((l) => has([l.From, l.To, l.Network, ...l.Ports])),
    networks: keyedNetworks(traffic).filter((n) => peopled.has(n.Name) || names(n)),
    uplinks: traffic.Uplinks.filter((u) => has([u.Name, ...u.Addresses])).map((u) => ({ ...u, key: u.Name })),
    names,
  };
}

function allDrops() {
  const own = traffic.Endpoints.flatMap((e) => keyedDrops(e.Drops, e.Container, pathOf(e)));
  return [...own, ...keyedDrops(traffic.Drops, "(host)", null)];
}

function overview() {
  const found = find();
  picture.show(traffic, found);
  endpoints.show(found.endpoints);
  drops.show(found.drops);
  ports.show(found.ports, somePorts(traffic));
  links.show(found.links);
  networks.show(found.networks);
  uplinks.show(found.uplinks);
  const said = [`${found.endpoints.length} of ${traffic.Endpoints.length} endpoints`, somePorts(traffic)];
  write(at("found"), found.searched ? said.filter(Boolean).join(". ") : "");
}

function route() {
  const id = named();
  at("overview").hidden = id !== null;
  at("detail").hidden = id === null;
  if (id !== null && page.id !== id) {
    page.open(id);
  } else if (id === null) {
    document.title = "Bascule";
    if (page.id !== null) {
      page.id = null;
      at("main").focus({ preventScroll: true });
      scrollTo(0, 0);
    }
  }
}

async function look() {
  const mine = ++asking;
  const id = named();
  try {
    const [everything, one] = await Promise.all([
      ask("/api/traffic"),
      id === null ? null : ask(`/api/endpoints/${encodeURIComponent(id)}`),
    ]);
    if (mine !== asking) return;
    traffic = everything;
    say("");
    summary();
    if (id === null) overview();
    else if (one) page.show(one, traffic);
    else page.gone();
  } catch (error) {
    if (mine === asking) say(`The agent does not answer (${error.message}). Trying again.`);
  }
  if (mine === asking) setTimeout(look, traffic && traffic.Endpoints.length > MANY ? 2 * PAUSE : PAUSE);
}

addEventListener("hashchange", () => {
  route();
  look();
});
search.addEventListener("input", () => {
  if (named() !== null) location.hash = "#/";
  else if (traffic) overview();
});
at("search-form").addEventListener("submit", (event) => event.preventDefault());
// Nobody looks: nobody asks.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) asking += 1;
  else look();
});
addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
  }
});
route();
look();
