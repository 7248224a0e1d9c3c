// The live page: asks for data.json while somebody looks, and fills what it is made of.
import { Figures } from "./figures.js";
import { number, duration, clock, stateWord } from "./words.js";

const EVERY_MS = 2000;
const PATIENCE_MS = 10000;

const at = (id) => document.getElementById(id);
const figures = new Figures(at("figures"));
let span = "run";
let paused = false;
let asking = false;
let answered = null; // when the latest answer came
let shown = ""; // the run that is drawn

function put(id, text) {
  const element = at(id);
  if (element.textContent !== text) element.textContent = text; // read aloud only when it changes
}

function pause(on) {
  paused = on;
  at("pause").setAttribute("aria-pressed", String(on));
  put("pause", on ? "Go on" : "Pause");
  if (!on) ask();
}

async function ask() {
  if (asking) return;
  asking = true;
  const asked = span;
  try {
    const answer = await fetch(`data.json?span=${asked}`, { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.redirected) throw new Error("the login has ended: reload this page");
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const data = await answer.json();
    answered = new Date();
    at("connection").hidden = true;
    if (asked === span && !paused) show(data);
  } catch (error) {
    const since = answered ? ` since ${clock(answered / 1000, true)}` : "";
    put("connection", `No numbers${since} (${error.message}). Trying again.`);
    at("connection").hidden = false;
  } finally {
    asking = false;
    if (asked !== span) ask();
  }
}

function show(data) {
  headline(data);
  at("begin").hidden = data.run !== null;
  at("charts").hidden = at("table").hidden = data.run === null;
  if (data.run === null) return;
  if (shown !== data.run.id) {
    shown = data.run.id;
    document.dispatchEvent(new CustomEvent("tokenswarm:run", { detail: data.run }));
  }
  put("resolution", `${data.width_s === 1 ? "1 second" : `${data.width_s} seconds`} a point`);
  figures.show(data);
  table(data.columns, data.table);
}

function headline({ state, run }) {
  put("state", stateWord(state));
  document.title = `${stateWord(state)} · Tokenswarm`;
  put("name", run ? run.name : "Tokenswarm live");
  put("about", run ? `Run ${run.id} · ${run.model} at ${run.target} · ${run.loop} loop` : "");
  at("simulated").hidden = !run?.simulated;
  put("elapsed", run ? duration(run.elapsed_s) : "–");
  for (const name of ["requests", "failed", "users", "in_flight", "tokens_per_s", "ok_per_s"]) {
    put(name, number(run?.[name]));
  }
  at("failed").classList.toggle("bad", (run?.failed ?? 0) > 0);
}

function cell(kind, text, heading) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (heading) made.dataset.heading = heading;
  return made;
}

// Fills the cells that are there, where they fit: whoever reads them keeps the place.
function table(columns, rows) {
  const keys = Object.keys(columns);
  const texts = rows.map((row) => keys.map((key) => cellText(key, row[key])));
  const lines = [...at("table").querySelector("tbody").rows];
  const fits = lines.length === rows.length && lines.every((line) => line.cells.length === keys.length);
  if (!fits) return build(columns, texts);
  lines.forEach((line, row) => [...line.cells].forEach((filled, place) => {
    if (filled.textContent !== texts[row][place]) filled.textContent = texts[row][place];
  }));
}

function cellText(key, value) {
  if (value === null) return "–";
  return key === "n" || typeof value === "string" ? String(value) : value.toFixed(2);
}

function build(columns, texts) {
  const head = document.createElement("tr");
  for (const heading of Object.values(columns)) {
    const made = cell("th", heading);
    made.scope = "col";
    head.append(made);
  }
  at("table").querySelector("thead").replaceChildren(head);
  at("table").querySelector("tbody").replaceChildren(...texts.map((row) => {
    const line = document.createElement("tr");
    Object.entries(columns).forEach(([key, heading], place) => {
      const made = cell(key === "scenario" ? "th" : "td", row[place], heading);
      if (key === "scenario") made.scope = "row";
      line.append(made);
    });
    return line;
  }));
}

at("pause").addEventListener("click", () => pause(!paused));
at("span").addEventListener("change", (event) => {
  span = event.target.value;
  pause(false);
});
document.addEventListener("tokenswarm:zoom", () => pause(true));
document.addEventListener("tokenswarm:sla", (event) => figures.judge(event.detail));
document.addEventListener("tokenswarm:markers", (event) => figures.mark(event.detail));
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) ask(); });
setInterval(() => { if (!document.hidden && !paused) ask(); }, EVERY_MS);
ask();
