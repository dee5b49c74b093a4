// Lines of two texts side by side. The longest common run of lines is kept together;
// beyond a size, finding it would take too long, and lines stand as they come.

const CELLS_MAX = 4_000_000;

// Pairs of [left, right]; null where a side has no such line. Null when it is too much.
export function diff(left, right) {
  let start = 0;
  while (start < left.length && start < right.length && left[start] === right[start]) start += 1;
  let end = 0;
  while (end < left.length - start && end < right.length - start
    && left[left.length - 1 - end] === right[right.length - 1 - end]) end += 1;
  const a = left.slice(start, left.length - end);
  const b = right.slice(start, right.length - end);
  if ((a.length + 1) * (b.length + 1) > CELLS_MAX) return null;
  const same = (lines) => lines.map((it) => [it, it]);
  return [...same(left.slice(0, start)), ...middle(a, b), ...same(left.slice(left.length - end))];
}

function middle(a, b) {
  const width = b.length + 1;
  const length = new Uint32Array((a.length + 1) * width);
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      length[i * width + j] = a[i] === b[j]
        ? length[(i + 1) * width + j + 1] + 1
        : Math.max(length[(i + 1) * width + j], length[i * width + j + 1]);
    }
  }
  const pairs = [];
  let gone = [];
  let come = [];
  const flush = () => {
    for (let at = 0; at < Math.max(gone.length, come.length); at += 1) {
      pairs.push([gone[at] ?? null, come[at] ?? null]);
    }
    gone = [];
    come = [];
  };
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      flush();
      pairs.push([a[i], b[j]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && length[(i + 1) * width + j] >= length[i * width + j + 1])) {
      gone.push(a[i]);
      i += 1;
    } else {
      come.push(b[j]);
      j += 1;
    }
  }
  flush();
  return pairs;
}
