// Which charts there are, and what each of them shows.
import { Figure } from "./figure.js";

const line = (column, label) => ({ column, label });

const GROUPS = [
  ["Latency", [
    { title: "Time to first token", unit: "ms", metric: "ttft",
      lines: [line("ttft_p50_ms", "p50"), line("ttft_p95_ms", "p95"), line("ttft_p99_ms", "p99")] },
    { title: "Gap between tokens (ITL)", unit: "ms", metric: "itl",
      lines: [line("itl_p50_ms", "p50"), line("itl_p99_ms", "p99")] },
    { title: "How TTFT spreads", unit: "ms", metric: "ttft", heat: "ttft",
      hint: "the stronger, the larger the share of that moment's requests",
      lines: [line("ttft_p50_ms", "p50"), line("ttft_p99_ms", "p99")] },
    { title: "How ITL spreads", unit: "ms", metric: "itl", heat: "itl",
      hint: "the stronger, the larger the share of that moment's gaps",
      lines: [line("itl_p50_ms", "p50"), line("itl_p99_ms", "p99")] },
  ]],
  ["Load", [
    { title: "Requests", unit: "/s",
      hint: "offered: due; started: sent off; apart, the load generator is behind",
      lines: [line("offered_per_s", "offered"), line("started_per_s", "started"), line("ok_per_s", "ended ok")] },
    { title: "In flight", unit: "", lines: [line("in_flight", "requests in flight")] },
    { title: "Tokens", unit: "/s", lines: [line("tokens_per_s", "tokens that arrived")] },
    { title: "Errors by outcome", unit: "/s", errors: true, lines: [] },
  ]],
  ["Server", [
    { title: "Queue", unit: "", lines: [line("server_waiting", "waiting"), line("server_running", "running"),
      line("preemptions_per_s", "preemptions/s")] },
    { title: "KV cache", unit: "%", lines: [line("kv_cache_percent", "in use"), line("prefix_hit_percent", "prefix hits")] },
  ]],
  ["Instrument", [
    { title: "Lag of reading", unit: "ms", hint: "the worst from a token's arrival to our reading it",
      lines: [line("lag_max_ms", "worst")] },
    { title: "Load generator", unit: "%", hint: "coalesced tokens share their time with an earlier one",
      lines: [line("coalesced_percent", "coalesced"), line("cpu_percent", "CPU, busiest worker")] },
    { title: "Workers", unit: "", lines: [line("workers", "workers that report")] },
  ]],
];

export class Figures {
  constructor(place) {
    this.figures = [];
    this.groups = [];
    for (const [title, specs] of GROUPS) {
      const group = document.createElement("section");
      const heading = document.createElement("h3");
      heading.textContent = title;
      const grid = document.createElement("div");
      grid.className = "grid";
      const made = specs.map((spec) => new Figure(spec, grid));
      group.append(heading, grid);
      place.append(group);
      this.figures.push(...made);
      this.groups.push({ group, made });
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      for (const figure of this.figures) figure.rebuild();
    });
  }

  show(data) {
    for (const figure of this.figures) figure.show(data);
    for (const { group, made } of this.groups) group.hidden = made.every((figure) => figure.empty);
  }

  // Draws the limits of the SLA: `verdict` is sla.json.
  judge(verdict) {
    const limits = (verdict?.objectives ?? []).filter((one) => one.unit === "ms" && Number.isFinite(one.limit));
    for (const figure of this.figures) {
      figure.limits = limits.filter((one) => one.metric === figure.spec.metric);
      figure.redraw();
    }
  }

  // Draws markers: [{unix_s, text}].
  mark(markers) {
    for (const figure of this.figures) {
      figure.markers = markers ?? [];
      figure.redraw();
    }
  }
}
