// The form that starts a run, what changes it while it is on, and its markers. Fills <section id="controls">.
// Whatever came from a server or a person goes into the page by textContent or value alone.
import { stateWord } from "./words.js";

const POLL_MS = 2000;
const SLA_MAX_BYTES = 65536;
const FIELD_OF = { rate_per_user: "arrivals_per_s", user_count: "arrivals_per_s" }; // where a loop has another

const section = document.getElementById("controls");
const inputs = new Map(); // name -> { input, error, field }
let loop = "";
let shown = { phase: "", markers: "" };

function make(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in made && !name.startsWith("aria")) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

async function ask(path, form) {
  const request = form ? { method: "POST", body: new URLSearchParams(form) } : {};
  try {
    const answer = await fetch(path, request);
    if (answer.redirected && answer.url.includes("login")) throw new Error("log in again: reload this page");
    return await answer.json();
  } catch (error) {
    const said = error instanceof SyntaxError ? "found no JSON in the answer: reload this page" : error.message;
    return { success: false, message: `Locust does not answer (${said})` };
  }
}

// One field: label, input, unit, help and its own line for what is wrong.

function wrong(name, text) {
  const found = inputs.get(name) ?? inputs.get(FIELD_OF[name]);
  if (!found) return false;
  found.error.textContent = text;
  if (text) found.input.setAttribute("aria-invalid", "true");
  else found.input.removeAttribute("aria-invalid");
  return true;
}

function check(name) {
  const { input, field } = inputs.get(name);
  const [low, high] = field.limits;
  const value = Number(input.value);
  let text = "";
  if (field.kind === "number") {
    if (input.value.trim() === "" || !Number.isFinite(value)) text = "expected a number";
    else if (low !== null && value < low) text = `expected at least ${low}`;
    else if (high !== null && value > high) text = `expected at most ${high}`;
  } else if (name === "host" && !/^https?:\/\/[^\s/]+/.test(input.value)) {
    text = "expected http://HOST:PORT or https://HOST:PORT";
  } else if (name === "prompt_words" || name === "max_tokens") {
    const range = /^(\d+)(?:-(\d+))?$/.exec(input.value.trim());
    if (!range || Number(range[1]) < 1 || Number(range[2] ?? range[1]) < Number(range[1])) {
      text = "expected a number or LOW-HIGH, such as 16-128";
    }
  } else if (name === "extra_body" && input.value.trim()) {
    text = jsonObject(input.value);
  }
  wrong(name, text);
  return !text;
}

function jsonObject(text) {
  try {
    const found = JSON.parse(text);
    return found && typeof found === "object" && !Array.isArray(found) ? "" : "expected a JSON object";
  } catch (error) {
    return `expected a JSON object (${error.message})`;
  }
}

function control(field, id, described) {
  const common = { id, name: field.name, "aria-describedby": described };
  if (field.kind === "choice") {
    const options = field.choices.map(([value, text]) => make("option", { value, textContent: text }));
    const select = make("select", common, ...options);
    select.value = field.value;
    return select;
  }
  if (field.kind === "textarea") return make("textarea", { ...common, rows: 3, value: field.value, spellcheck: false });
  const number = field.kind === "number" ? { inputMode: "decimal" } : {};
  return make("input", { ...common, type: "text", value: field.value ?? "", autocomplete: "off", ...number });
}

function fieldset(group) {
  const set = make("fieldset", {}, make("legend", { textContent: group.name }));
  for (const field of group.fields) {
    const id = `control-${field.name}`;
    const input = control(field, id, `${id}-help ${id}-error`);
    const error = make("p", { id: `${id}-error`, className: "error" });
    const unit = field.unit ? [make("span", { className: "unit", textContent: field.unit })] : [];
    const label = make("label", { htmlFor: id, textContent: field.label });
    const help = make("p", { id: `${id}-help`, className: "help", textContent: field.help });
    set.append(make("div", { className: "field" }, label, make("div", { className: "with-unit" }, input, ...unit), help, error));
    inputs.set(field.name, { input, error, field });
    input.addEventListener("change", () => check(field.name));
  }
  return set;
}

// The models of a target, asked for when it has been typed in.

async function listModels() {
  const host = inputs.get("host").input;
  const { input, error } = inputs.get("model");
  if (!host.value || !check("host")) return;
  const found = await ask("models.json", { host: host.value });
  const list = document.getElementById("control-models");
  list.replaceChildren(...(found.models ?? []).map((name) => make("option", { value: name })));
  const words = found.success ? "" : found.message;
  wrong("host", words);
  const help = document.getElementById("control-model-help");
  if (found.success) help.textContent = `Served: ${found.models.slice(0, 5).join(", ")}${found.models.length > 5 ? " …" : ""}. Empty: the first`;
  if (found.success && input.value && !found.models.includes(input.value)) wrong("model", "not among the models that the server lists");
  else if (error.textContent) wrong("model", "");
}

function slaPicker() {
  const sla = inputs.get("sla_text");
  if (!sla) return;
  const picker = make("input", { type: "file", id: "control-sla-file", accept: ".yaml,.yml,.txt" });
  picker.addEventListener("change", async () => {
    const file = picker.files[0];
    if (!file) return;
    if (file.size > SLA_MAX_BYTES) return wrong("sla_text", `found ${file.size} bytes, expected at most ${SLA_MAX_BYTES}`);
    sla.input.value = await file.text();
    wrong("sla_text", "");
  });
  const label = make("label", { htmlFor: picker.id, textContent: "or read it from a file" });
  sla.input.closest(".field").append(label, picker);
}

// The parts of the section.

const state = make("p", { className: "state", role: "status", tabIndex: -1 });
const load = make("p", { className: "help", id: "control-load" });
const said = make("p", { className: "error", role: "alert" });
const settings = make("details", { open: true }, make("summary", { textContent: "Settings" }));
const startButton = make("button", { className: "button", type: "submit", textContent: "Start" });
const start = make("form", { id: "control-start", noValidate: true }, settings, startButton);

const target = make("input", { id: "control-change-to", type: "text", inputMode: "decimal", autocomplete: "off" });
const targetUnit = make("span", { className: "unit" });
const ramp = make("input", { id: "control-change-ramp", type: "text", inputMode: "decimal", autocomplete: "off" });
const change = make(
  "form",
  { id: "control-change", className: "inline", noValidate: true, hidden: true },
  make("label", { htmlFor: target.id, textContent: "Change the load to" }),
  make("div", { className: "with-unit" }, target, targetUnit),
  make("label", { htmlFor: ramp.id, textContent: "adding each second" }),
  ramp,
  make("button", { className: "button", type: "submit", textContent: "Apply" }),
);
const note = make("input", { id: "control-marker-text", type: "text", maxLength: 200, autocomplete: "off", placeholder: "deployed the new build" });
const mark = make(
  "form",
  { id: "control-marker", className: "inline", noValidate: true, hidden: true },
  make("label", { htmlFor: note.id, textContent: "Marker" }),
  note,
  make("button", { className: "button", type: "submit", textContent: "Set marker" }),
);
const stopButton = make("button", { className: "button", type: "button", textContent: "Stop", id: "control-stop", hidden: true });
const marked = make("ol", { className: "markers", "aria-label": "Markers of the latest run" });

function tell(answer) {
  const failed = answer.success === false;
  said.textContent = failed ? answer.message : "";
  return !failed;
}

start.addEventListener("submit", async (event) => {
  event.preventDefault();
  const bad = [...inputs.keys()].filter((name) => !check(name));
  if (bad.length) {
    settings.open = true;
    said.textContent = `${bad.length === 1 ? "One field is" : `${bad.length} fields are`} not right yet`;
    return inputs.get(bad[0]).input.focus();
  }
  startButton.disabled = true;
  state.textContent = "Checking…";
  const form = {};
  for (const [name, { input }] of inputs) form[name] = input.value.trim();
  const answer = await ask("../swarm", form);
  if (!tell(answer)) {
    shown.phase = "";
    settings.open = true;
    if (answer.field && wrong(answer.field, answer.message)) (inputs.get(answer.field) ?? inputs.get(FIELD_OF[answer.field])).input.focus();
  }
  await refresh();
  // the button that had the focus is gone or cannot be pressed: go on from the line that says what became of it
  if (answer.success !== false) state.focus();
});

change.addEventListener("submit", async (event) => {
  event.preventDefault();
  const name = loop === "open" ? "arrivals_per_s" : "user_count";
  const answer = await ask("../swarm", { [name]: target.value.trim(), spawn_rate: ramp.value.trim() });
  if (answer.success === false) target.setAttribute("aria-invalid", "true");
  else target.removeAttribute("aria-invalid");
  tell(answer);
  await refresh();
});

mark.addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await ask("markers", { text: note.value });
  if (tell(answer)) note.value = "";
  await refresh();
});

stopButton.addEventListener("click", async () => {
  stopButton.disabled = true;
  state.textContent = `${stateWord("stopping")}: its streams may run to their end`;
  tell(await ask("../stop", {}));
  await refresh();
});

// What goes on.

function show(now) {
  const { can_start: free, can_change: on } = now;
  const phase = on ? "on" : free ? "free" : "neither";
  if (shown.phase !== phase) {
    if (on || free) settings.open = free;
    if (on) {
      target.value = now.load;
      ramp.value = inputs.get("spawn_rate")?.input.value ?? "1";
    }
    shown.phase = phase;
  }
  const text = [stateWord(now.state), now.says].filter(Boolean).join(": ");
  if (state.textContent !== text) state.textContent = text;
  loop = now.unit === "arrivals/s" ? "open" : "closed";
  const crew = now.workers ? `workers: ${now.workers.there} of ${Math.max(now.workers.expected, now.workers.there)}` : "";
  const end = now.left_s === null ? "" : `ends in ${now.left_s} s`;
  load.textContent = [on ? `${now.load} ${now.unit}` : "", end, crew].filter(Boolean).join("; ");
  targetUnit.textContent = now.unit;
  for (const part of [change, mark, stopButton]) part.hidden = !on;
  stopButton.disabled = false;
  startButton.hidden = on;
  startButton.disabled = !free;
}

function showMarkers(found) {
  const text = JSON.stringify(found);
  if (text === shown.markers) return;
  shown.markers = text;
  marked.replaceChildren(
    ...found.map(({ unix_s: at, text: words }) => {
      const moment = new Date(at * 1000);
      const time = make("time", { dateTime: moment.toISOString(), textContent: moment.toLocaleTimeString([], { hour12: false }) });
      return make("li", {}, time, ` ${words}`);
    }),
  );
  document.dispatchEvent(new CustomEvent("tokenswarm:markers", { detail: found }));
}

async function refresh() {
  const now = await ask("state.json");
  if (now.success === false) {
    if (state.textContent !== now.message) state.textContent = now.message;
    return;
  }
  show(now);
  const { markers } = await ask("markers.json");
  if (markers) showMarkers(markers);
}

async function begin() {
  document.head.append(make("link", { rel: "stylesheet", href: "page/controls.css" }));
  section.append(state, load, said, stopButton, change, mark, marked, start);
  const form = await ask("form.json");
  if (!tell(form)) return;
  settings.append(make("div", { className: "groups" }, ...form.groups.map(fieldset)));
  section.append(make("datalist", { id: "control-models" }));
  inputs.get("model").input.setAttribute("list", "control-models");
  inputs.get("host").input.addEventListener("change", listModels);
  slaPicker();
  await refresh();
  setInterval(() => document.hidden || refresh(), POLL_MS);
  await listModels();
}

if (section) begin();
