// The SLA as lights: the whole verdict large, each objective with what was observed, its limit and the reason.
// Other parts of the page hear of it by the event "tokenswarm:sla" on the document.

const PERIOD_MS = 2000;
const SYMBOLS = { PASS: "✓", FAIL: "✗", OVERSATURATED: "▲", INCONCLUSIVE: "?", INVALID: "⚠" };
const UNKNOWN = "…";

function element(kind, className, text = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  return made;
}

function styleSheet() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = "page/sla.css";
  document.head.append(link);
}

function light(status) {
  const made = element("span", "sla-light");
  made.dataset.status = status ?? "";
  const symbol = element("span", "sla-symbol", status ? SYMBOLS[status] : UNKNOWN);
  symbol.setAttribute("aria-hidden", "true"); // the word says it
  made.append(symbol, element("span", "", status ?? "not judged"));
  return made;
}

function clock(unixS) {
  return new Date(unixS * 1000).toISOString().slice(11, 19) + " UTC";
}

function standing(found) {
  if (!found.sla) return "";
  if (found.as_of_unix_s === null) return `SLA ${found.sla}`;
  return found.so_far
    ? `SLA ${found.sla}, so far, as of ${clock(found.as_of_unix_s)}, judged every ${found.every_s} s`
    : `SLA ${found.sla}, final`;
}

function objective(one, asOf) {
  const item = element("li", "sla-objective");
  item.append(light(one.status), element("span", "sla-text", one.text));
  if (one.observed_words) {
    const figures = element("span", "sla-figures");
    figures.append(element("strong", "", one.observed_words), ` observed, limit ${one.limit_words}, n = ${one.n.toLocaleString("en")}`);
    if (one.as_of_unix_s !== asOf && one.as_of_unix_s) figures.append(`, as of ${clock(one.as_of_unix_s)}`);
    item.append(figures);
  }
  if (one.reason) item.append(element("span", "sla-reason", one.reason));
  return item;
}

class Lights {
  constructor(section) {
    this.whole = element("p", "sla-whole");
    this.whole.setAttribute("role", "status"); // said aloud when it changes, and only then
    this.standing = element("p", "sla-standing");
    this.reasons = element("ul", "sla-reasons");
    this.objectives = element("ul", "sla-objectives");
    this.objectives.setAttribute("aria-label", "Objectives");
    this.section = section;
    section.append(this.whole, this.standing, this.reasons, this.objectives);
    this.status = undefined;
    this.shown = "";
  }

  show(found) {
    const text = JSON.stringify(found);
    if (text === this.shown) return;
    this.shown = text;
    this.section.hidden = found.run === null; // nothing was asked yet
    if (found.status !== this.status) this.whole.replaceChildren(light(found.status));
    this.status = found.status;
    this.standing.textContent = standing(found);
    this.reasons.replaceChildren(...found.reasons.map((reason) => element("li", "", reason)));
    this.objectives.replaceChildren(...found.objectives.map((one) => objective(one, found.as_of_unix_s)));
    document.dispatchEvent(new CustomEvent("tokenswarm:sla", { detail: found }));
  }

  lost(why) {
    this.shown = "";
    this.standing.textContent = `not known: ${why}`;
  }
}

async function poll(lights) {
  if (!document.hidden) {
    try {
      const answer = await fetch("sla.json");
      if (answer.ok) lights.show(await answer.json());
      else lights.lost(`the server answered ${answer.status}`);
    } catch {
      lights.lost("the server cannot be reached");
    }
  }
  setTimeout(poll, PERIOD_MS, lights);
}

const section = document.getElementById("sla");
if (section) {
  styleSheet();
  poll(new Lights(section));
}
