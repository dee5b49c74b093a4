// Numbers, times and JSON as people read them.

const MINUTE = 60, HOUR = 3600, DAY = 86400;

export function relative(iso, now = Date.now()) {
  const seconds = (Date.parse(iso) - now) / 1000;
  const ahead = seconds > 0;
  const size = Math.abs(seconds);
  if (size < 1.5) return ahead ? "in a moment" : "just now";
  const [count, unit] =
    size < MINUTE ? [size, "s"] : size < HOUR ? [size / MINUTE, "min"]
      : size < 2 * DAY ? [size / HOUR, "h"] : [size / DAY, "d"];
  const amount = `${Math.floor(count)} ${unit}`;
  return ahead ? `in ${amount}` : `${amount} ago`;
}

export function exact(iso) {
  const at = new Date(iso);
  return `${at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" })} (${iso})`;
}

export function clock(iso) {
  const at = new Date(iso);
  const two = (it, digits = 2) => String(it).padStart(digits, "0");
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${two(at.getMilliseconds(), 3)}`;
}

export function milliseconds(ms) {
  if (ms === null || ms === undefined) return "–";
  if (ms === 0) return "0";
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  return `${(ms / 1000).toFixed(ms < 10000 ? 2 : 1)} s`;
}

export function seconds(s) {
  if (s < 1) return `${Math.round(s * 1000)} ms`;
  if (s < MINUTE) return `${trimmed(s)} s`;
  if (s < HOUR) return `${trimmed(s / MINUTE)} min`;
  if (s < DAY) return `${trimmed(s / HOUR)} h`;
  return `${trimmed(s / DAY)} d`;
}

function trimmed(number) {
  return String(Math.round(number * 10) / 10);
}

export function bytes(count) {
  if (count < 1024) return `${count} B`;
  if (count < 1 << 20) return `${trimmed(count / 1024)} KB`;
  return `${trimmed(count / (1 << 20))} MB`;
}

export function count(number) {
  return number.toLocaleString("en-US").replaceAll(",", "\u202f");
}

export function percent(ratio) {
  if (ratio === null || ratio === undefined) return "–";
  if (ratio === 1 || ratio === 0 || ratio === 0.5) return `${ratio * 100} %`;
  return `${(Math.floor(ratio * 1000) / 10).toFixed(1)} %`;
}

// Deeper, lines do not move further to the right: nesting must not multiply a text.
const INDENT_MAX = 40;

// JSON on lines of its own, every value as it was written; null for other text.
export function indented(json) {
  try {
    JSON.parse(json);
  } catch {
    return null;
  }
  let out = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(Math.min(depth, INDENT_MAX))}`;
  const tokens = json.match(/"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/gs) ?? [];
  tokens.forEach((token, at) => {
    const last = tokens[at - 1];
    if (token === "}" || token === "]") {
      depth -= 1;
      if (last !== "{" && last !== "[") out += line();
      out += token;
      return;
    }
    if (last === "{" || last === "[" || last === ",") out += line();
    if (token === "{" || token === "[") depth += 1;
    out += token === ":" ? ": " : token;
  });
  return out;
}
