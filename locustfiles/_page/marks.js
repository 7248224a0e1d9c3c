// What is drawn into a plot beside its lines: a heat map, limits of the SLA, markers.

const LEVELS = 35;
const TEXT_MAX = 28;
const ROWS = 4; // of markers' words, one below the other where they would overlap

function within(plot, draw) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(ctx, bbox);
  ctx.restore();
}

const parts = (colour) => [1, 3, 5].map((from) => parseInt(colour.slice(from, from + 2), 16)); // #rrggbb

function shades(low, high) {
  const [from, to] = [parts(low), parts(high)];
  return Array.from({ length: LEVELS + 1 }, (_, level) => {
    const mixed = from.map((part, place) => Math.round(part + ((to[place] - part) * level) / LEVELS));
    return `rgb(${mixed.join()})`;
  });
}

// Draws a cell for every letter of `heat.columns`: a digit of base 36, 0 for nothing.
export function drawHeat(plot, unix_s, width_s, heat, ink) {
  const colours = shades(ink("--heat-low"), ink("--heat-high"));
  within(plot, (ctx) => {
    const edges = heat.edges_ms.map((edge) => Math.round(plot.valToPos(edge, "y", true)));
    heat.columns.forEach((letters, place) => {
      const left = Math.round(plot.valToPos(unix_s[place], "x", true));
      const right = Math.round(plot.valToPos(unix_s[place] + width_s, "x", true));
      for (let row = 0; row < letters.length; row += 1) {
        const level = parseInt(letters[row], 36);
        if (level) {
          ctx.fillStyle = colours[level];
          ctx.fillRect(left, edges[row + 1], Math.max(1, right - left), edges[row] - edges[row + 1]);
        }
      }
    });
  });
}

// Draws the SLA's limits as lines across, and markers as lines upright; each with its words.
export function drawMarks(plot, limits, markers, ink) {
  const ratio = window.devicePixelRatio || 1;
  within(plot, (ctx, box) => {
    ctx.font = `${12 * ratio}px system-ui, sans-serif`;
    ctx.lineWidth = 1.5 * ratio;
    ctx.textBaseline = "bottom";
    for (const { limit, text } of limits) {
      const y = plot.valToPos(limit, "y", true);
      const above = y < box.top;
      ctx.strokeStyle = ctx.fillStyle = ink("--fail");
      ctx.setLineDash([8 * ratio, 4 * ratio]);
      if (!above) stroke(ctx, box.left, y, box.left + box.width, y);
      const base = above || y - box.top < 16 * ratio ? Math.max(y, box.top) + 15 * ratio : y - 2 * ratio;
      ctx.textAlign = "right";
      write(ctx, above ? `${text} ↑` : text, box.left + box.width - 4 * ratio, base, ink);
    }
    const taken = []; // how far to the right each row is
    for (const { unix_s, text } of markers) {
      const x = plot.valToPos(unix_s, "x", true);
      ctx.strokeStyle = ctx.fillStyle = ink("--ink");
      ctx.setLineDash([2 * ratio, 3 * ratio]);
      stroke(ctx, x, box.top, x, box.top + box.height);
      const short = text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX - 1)}…` : text;
      const width = ctx.measureText(`⚑ ${short}`).width + 8 * ratio;
      const right = x + width > box.left + box.width;
      const from = right ? x - width : x;
      const free = Array.from({ length: ROWS }, (_, row) => row).find((row) => (taken[row] ?? 0) <= from) ?? 0;
      taken[free] = from + width;
      ctx.textAlign = right ? "right" : "left";
      write(ctx, `⚑ ${short}`, x + (right ? -4 : 4) * ratio, box.top + 14 * (free + 1) * ratio, ink);
    }
  });
}

// Writes over lines, on a rim that keeps it readable.
function write(ctx, text, x, y, ink) {
  const [colour, dash] = [ctx.fillStyle, ctx.getLineDash()];
  ctx.setLineDash([]);
  ctx.lineJoin = "round";
  ctx.strokeStyle = ink("--panel");
  const width = ctx.lineWidth;
  ctx.lineWidth = 3 * width;
  ctx.strokeText(text, x, y);
  ctx.fillText(text, x, y);
  Object.assign(ctx, { lineWidth: width, strokeStyle: colour });
  ctx.setLineDash(dash);
}

function stroke(ctx, x0, y0, x1, y1) {
  ctx.beginPath();
  ctx.moveTo(x0, y0);
  ctx.lineTo(x1, y1);
  ctx.stroke();
}
