// Attempts as they happen: one connection for all who listen.

// Each with whether it hears of everything, seen or not.
const listeners = new Map();
let source = null;
let again = null;
let left = false;

function tell(kind, data) {
  document.body.dataset.live = kind === "closed" ? "no" : "yes";
  for (const listener of [...listeners.keys()]) listener(kind, data);
}

function close() {
  clearTimeout(again);
  source?.close();
  source = null;
}

// A browser opens few connections to one host, and a page that nobody sees would hold one of
// them: in another tab, or left and kept to be gone back to.
function openWhileSeen() {
  const hears = !left && [...listeners.values()].some((always) => always || !document.hidden);
  if (!hears) close();
  else if (!source) open();
}
document.addEventListener("visibilitychange", openWhileSeen);
// A page that is left is hidden after it has been told so.
for (const [kind, leaves] of [["pagehide", true], ["pageshow", false]]) {
  addEventListener(kind, () => {
    left = leaves;
    openWhileSeen();
  });
}

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

// Call with "open", "closed", "attempt" or "lagged" until the signal; while the page is not
// seen only if that is always wanted.
export function listen(signal, listener, { always = false } = {}) {
  listeners.set(listener, always);
  openWhileSeen();
  signal.addEventListener("abort", () => {
    listeners.delete(listener);
    openWhileSeen();
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
