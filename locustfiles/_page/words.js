// Numbers, times and the states of a run as people read them.

const SYMBOLS = { ready: "○", spawning: "◔", running: "●", stopping: "◑", stopped: "■" }; // Locust's words

export function stateWord(state) {
  return `${SYMBOLS[state] ?? ""} ${state[0].toUpperCase()}${state.slice(1)}`.trim();
}

export function number(value) {
  if (value === null || value === undefined) return "–";
  const digits = Number.isInteger(value) || Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2;
  return value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

export function withUnit(value, unit) {
  return value === null || value === undefined ? "–" : `${number(value)}${unit ? ` ${unit}` : ""}`;
}

export function duration(seconds) {
  const two = (part) => String(Math.floor(part)).padStart(2, "0");
  const hours = Math.floor(seconds / 3600);
  return `${hours ? `${hours}:` : ""}${two((seconds / 60) % 60)}:${two(seconds % 60)}`;
}

export function clock(unix_s, seconds) {
  const date = new Date(unix_s * 1000);
  const parts = [date.getHours(), date.getMinutes(), ...(seconds ? [date.getSeconds()] : [])];
  return parts.map((part) => String(part).padStart(2, "0")).join(":");
}
