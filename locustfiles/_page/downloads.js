// The runs of this server's process, newest first: the run directory as a zip, the report as a PDF.

const PERIOD_MS = 5000;

function element(kind, className, text = "") {
  const made = document.createElement(kind);
  made.className = className;
  made.textContent = text;
  return made;
}

function moment(unixS) {
  return new Date(unixS * 1000).toISOString().slice(0, 19).replace("T", " ") + " UTC";
}

function facts(run) {
  const ended = run.ended_unix_s;
  return `${run.id}, from ${moment(run.started_unix_s)}` + (ended === null ? ", goes on" : ` to ${moment(ended)}`);
}

function save(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

// A report is drawn when it is asked for, which takes some seconds: say so, and say why where it fails.
async function report(run, button, said) {
  button.disabled = true;
  said.textContent = "The report is being made …";
  try {
    const answer = await fetch(`runs/${encodeURIComponent(run.id)}.pdf`);
    if (!answer.ok) throw new Error(await answer.text());
    save(await answer.blob(), `tokenswarm-${run.id}.pdf`);
    said.textContent = "";
  } catch (error) {
    said.textContent = `No report: ${error.message}`;
  }
  button.disabled = false;
}

class Run {
  constructor(run) {
    this.item = element("li", "downloads-run");
    this.facts = element("span", "downloads-facts");
    this.zip = element("a", "button");
    this.zip.href = `runs/${encodeURIComponent(run.id)}.zip`;
    this.pdf = element("button", "button");
    this.pdf.type = "button";
    const said = element("p", "downloads-said");
    said.setAttribute("role", "status");
    this.pdf.addEventListener("click", () => report(run, this.pdf, said));
    this.item.append(element("span", "downloads-name", run.name), this.facts, this.zip, this.pdf, said);
    this.show(run);
  }

  show(run) {
    const soFar = run.ended_unix_s === null ? " so far" : "";
    this.facts.textContent = facts(run);
    this.zip.textContent = `Run directory${soFar} (zip)`;
    this.pdf.textContent = `Report${soFar} (PDF)`;
    this.zip.setAttribute("aria-label", `${this.zip.textContent} of ${run.name} ${run.id}`);
    this.pdf.setAttribute("aria-label", `${this.pdf.textContent} of ${run.name} ${run.id}`);
  }
}

class Runs {
  constructor(section) {
    this.none = element("p", "downloads-facts", "No run yet.");
    this.list = element("ul", "downloads-runs");
    this.known = new Map();
    section.append(this.none, this.list);
  }

  show(runs) {
    this.none.hidden = runs.length > 0;
    const ids = new Set(runs.map((run) => run.id));
    for (const [id, gone] of this.known) {
      if (ids.has(id)) continue; // another process answers now, which does not have it
      gone.item.remove();
      this.known.delete(id);
    }
    for (const run of runs) {
      if (this.known.has(run.id)) this.known.get(run.id).show(run);
      else {
        this.known.set(run.id, new Run(run));
        this.list.prepend(this.known.get(run.id).item);
      }
    }
  }
}

async function poll(runs) {
  if (!document.hidden) {
    try {
      const answer = await fetch("runs.json");
      if (answer.ok) runs.show((await answer.json()).runs);
    } catch {
      // the page's first line says that the server is gone
    }
  }
  setTimeout(poll, PERIOD_MS, runs);
}

const section = document.getElementById("downloads");
if (section) poll(new Runs(section));
