// Attempts as they happen: one connection for all who listen.

const listeners = new Set();
let source = null;
let again = null;

function tell(kind, data) {
  document.body.dataset.live = kind === "closed" ? "no" : "yes";
  for (const listener of [...listeners]) listener(kind, data);
}

function close() {
  clearTimeout(again);
  source?.close();
  source = null;
}

// A page that was left may be kept, to be gone back to: with its connection it would hold one
// of the few that a browser opens to one host.
addEventListener("pagehide", close);
addEventListener("pageshow", () => listeners.size > 0 && !source && open());

function open() {
  clearTimeout(again);
  source = new EventSource("/v1/stream");
  source.addEventListener("open", () => tell("open"));
  source.addEventListener("attempt", (event) => tell("attempt", JSON.parse(event.data)));
  source.addEventListener("lagged", (event) => tell("lagged", JSON.parse(event.data)));
  source.addEventListener("error", () => {
    tell("closed");
    if (source?.readyState !== EventSource.CLOSED) return;
    again = setTimeout(open, 3000);
  });
}

// Call with "open", "closed", "attempt" or "lagged" until the signal.
export function listen(signal, listener) {
  listeners.add(listener);
  if (!source) open();
  signal.addEventListener("abort", () => {
    listeners.delete(listener);
    if (listeners.size === 0) close();
  });
}

// Do something now, after attempts, and now and then; never twice at once, and at most once
// in a while however many attempts there are.
export function follow(signal, refresh, { every = 10_000, pause = 400, concerns = () => true } = {}) {
  let running = false;
  let wanted = false;
  let timer = null;
  const run = async () => {
    timer = null;
    if (running) {
      wanted = true;
      return;
    }
    running = true;
    try {
      await refresh();
    } catch (error) {
      // Nobody looks at it any more.
      if (!signal.aborted) throw error;
    } finally {
      running = false;
    }
    if (wanted && !signal.aborted) soon();
    wanted = false;
  };
  const soon = () => {
    timer ??= setTimeout(run, pause);
  };
  listen(signal, (kind, data) => {
    if (kind === "open" || kind === "lagged" || (kind === "attempt" && concerns(data))) soon();
  });
  const often = setInterval(() => document.hidden || soon(), every);
  signal.addEventListener("abort", () => {
    clearTimeout(timer);
    clearInterval(often);
  });
  return run();
}
