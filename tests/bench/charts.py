"""Draw target/bench.json into docs/performance/*.svg, and write its tables into
docs/performance.md between their markers. No figure on that page is typed by hand.

The same results give the same bytes: no date and no random ids are in the pictures.
"""

import json
import re
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "target/bench.json"
PAGE = ROOT / "docs/performance.md"
PICTURES = ROOT / "docs/performance"

# In the middle, so that they can be read on white and on black.
INK = "#7d8590"
FAINT = "#7d859040"
COLOURS = {
    "relay": "#8b949e",
    "sqlite": "#2f81f7",
    "postgres": "#d9822b",
    "engine": "#2f81f7",
    "database": "#d9822b",
    "limit": "#da3633",
}
NAMES = {"relay": "hyper relay", "sqlite": "SQLite", "postgres": "PostgreSQL"}

plt.rcParams.update({
    "svg.hashsalt": "plugpost",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "ytick.minor.size": 0,
    "grid.linewidth": 0.6,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.handlelength": 3,
    "legend.fontsize": 8,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
})


# ---- what was measured

def middle(value):
    """A figure, or the one in the middle of several rounds."""
    return value["median"] if isinstance(value, dict) else value


def off(rows, name):
    """How far the other rounds were from the middle, below and above."""
    values = [row[name] for row in rows]
    return [
        [max(0, it["median"] - it["min"]) for it in values],
        [max(0, it["max"] - it["median"]) for it in values],
    ]


def where(rows, **wanted):
    """The rows that have all of it."""
    return [row for row in rows if all(row.get(name) == it for name, it in wanted.items())]


def having(rows, *names):
    """The rows that have these columns, whatever is in them."""
    return [row for row in rows if all(name in row for name in names)]


# ---- pictures

def panels():
    """Two beside each other."""
    return plt.subplots(1, 2, figsize=(8.4, 3.2), constrained_layout=True)


def legend(figure, axes):
    """Below both, where no line is."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3)


def save(figure, name):
    PICTURES.mkdir(exist_ok=True)
    file = PICTURES / f"{name}.svg"
    figure.savefig(file, transparent=True, metadata={"Date": None, "Creator": None})
    plt.close(figure)
    # The file is kept in git: a hundredth of a point is enough, and no line ends in spaces.
    def rounded(tag):
        return re.sub(r"(\d\.\d\d)\d+", r"\1", tag.group())

    lines = re.sub(r"<[^>]*>", rounded, file.read_text()).splitlines()
    file.write_text("\n".join(line.rstrip() for line in lines) + "\n")


def line(axes, rows, x, y, label, system, style="-"):
    if not rows:
        return
    across, values = [row[x] for row in rows], [middle(row[y]) for row in rows]
    axes.errorbar(
        across, values, yerr=off(rows, y), label=label, color=COLOURS[system],
        linestyle=style, marker="o", elinewidth=0.8, capsize=2,
    )


def logarithmic(axes, rows, x, label, shown=str):
    """An axis whose ticks are the steps that were measured."""
    steps = sorted({row[x] for row in rows})
    axes.set_xscale("log")
    axes.set_xticks(steps, [shown(it) for it in steps])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(label)


def size(count):
    return f"{count // 1024} KiB" if count % 1024 == 0 else f"{count} B"


def thousands(count):
    return f"{count:,}"


def whole(row):
    """A row with the processor time of the engine and of its database in one."""
    database = middle(row["database_cpu_s_per_1000"] or 0)
    cpu = {name: it + database for name, it in row["cpu_s_per_1000"].items()}
    return {**row, "cpu": cpu}


def growth(name, rows, x, label, shown, series):
    """Processor time and the throughput beside the relay, as something grows."""
    figure, (cpu, share) = panels()
    for system, words in NAMES.items():
        for part, (filters, style) in series.items():
            mine = sorted(where(rows, system=system, **filters), key=lambda it: it[x])
            line(cpu, [whole(it) for it in mine], x, "cpu", words + part, system, style)
            if system != "relay":
                line(share, mine, x, "ratio_per_second", words + part, system, style)
    cpu.set_title("CPU seconds per 1,000 deliveries")
    share.set_title("Deliveries a second, as a share of the relay's")
    for axes in (cpu, share):
        logarithmic(axes, rows, x, label, shown)
        axes.set_ylim(bottom=0)
    legend(figure, cpu)
    save(figure, name)


def draw_relay(rows):
    rows = [row for row in having(rows, "endpoints") if not row["fan_out"]]
    grid = where_systems(rows)
    wide = [row for row in grid if row["body_bytes"] in (350, 8192)]
    series = {
        ", 350 B": ({"body_bytes": 350}, "-"),
        ", 8 KiB": ({"body_bytes": 8192}, "--"),
    }
    growth("endpoints", wide, "endpoints", "endpoints", thousands, series)
    growth("payload", where(grid, endpoints=100), "body_bytes", "payload", size, {"": ({}, "-")})


def where_systems(rows):
    """Without those that compare plugins: the relay beside them counts once."""
    loads = {}
    for row in rows:
        loads.setdefault((row["load"], row["system"]), row)
    return [row for row in loads.values() if row["system"] in NAMES]


def draw_rates(rows):
    rows = [row for row in having(rows, "asked_per_second") if row["asked_per_second"]]
    figure, all_axes = panels()
    for axes, load in zip(all_axes, ["200/s", "half of flat out"]):
        mine = where(rows, load=load)
        for place, row in enumerate(mine):
            p50, p99 = middle(row["p50_ms"]), middle(row["p99_ms"])
            colour = COLOURS[row["system"]]
            axes.plot([place, place], [p50, p99], color=colour, linewidth=5, alpha=0.45,
                      solid_capstyle="round")
            axes.plot(place, p50, "o", color=colour)
            axes.plot(place, p99, "D", color=colour)
            for it, name in ((p50, "p50"), (p99, "p99")):
                axes.annotate(f"{name} {it:.3g}", (place, it), (9, -3),
                              textcoords="offset points", fontsize=8)
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda it, _: f"{it:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.set_xticks(range(len(mine)), [
            f"{NAMES[row['system']]}\n{round(row['asked_per_second']):,}/s" for row in mine
        ])
        axes.set_xlim(-0.5, len(mine) - 0.2)
        axes.set_title(f"Milliseconds at {load}")
    save(figure, "latency")


def draw_backlog(rows):
    full = where(having(rows, "ratio_cpu"), system="full", store="sqlite")
    figure, (cpu, rate) = panels()
    line(cpu, full, "waiting", "ratio_cpu", None, "sqlite")
    cpu.axhline(1.2, color=COLOURS["limit"], linewidth=1, linestyle=":")
    cpu.annotate("the limit we set", (full[0]["waiting"], 1.2), (0, 4),
                 textcoords="offset points", fontsize=8)
    line(rate, full, "waiting", "ratio_per_second", None, "sqlite")
    cpu.set_title("CPU per delivery, of an empty store's")
    rate.set_title("Deliveries a second, of an empty store's")
    for axes in (cpu, rate):
        logarithmic(axes, full, "waiting", "deliveries waiting for another endpoint", thousands)
        axes.set_ylim(0, max(1.6, axes.get_ylim()[1]))
    save(figure, "backlog")


def draw_nodes(rows):
    figure, (cpu, late) = panels()
    names = [row["system"] for row in rows]
    engine = [middle(row["cpu_s_per_1000"]) for row in rows]
    database = [middle(row["database_cpu_s_per_1000"]) for row in rows]
    cpu.bar(names, engine, 0.5, label="engines", color=COLOURS["engine"], alpha=0.85)
    cpu.bar(names, database, 0.5, bottom=engine, label="PostgreSQL",
            color=COLOURS["database"], alpha=0.85)
    cpu.set_title("CPU seconds per 1,000 deliveries")
    cpu.set_ylim(top=1.35 * max(map(sum, zip(engine, database))))
    cpu.legend(ncols=2, loc="upper left")
    for name, style in (("p50_ms", "-"), ("p99_ms", "--")):
        line(late, rows, "nodes", name, name[:3], "engine", style)
    late.set_xticks([row["nodes"] for row in rows], names)
    late.set_ylim(bottom=0)
    late.set_title("Milliseconds from the sender to the receiver")
    late.legend()
    save(figure, "nodes")


# ---- tables

def shown(value):
    """A figure for people: three digits, and how far the rounds were apart."""
    if value is None:
        return "–"
    if isinstance(value, dict):
        if "median" not in value:
            return " / ".join(shown(it) for it in value.values())
        return f"{shown(value['median'])} ({shown(value['min'])}–{shown(value['max'])})"
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 999.5 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(rows, columns):
    """Markdown: columns are the words above and what is asked of a row."""
    def cell(row, of):
        return of(row) if callable(of) else shown(row.get(of))
    lines = [
        "| " + " | ".join(words for words, _ in columns) + " |",
        "|" + "---|" * len(columns),
    ]
    lines += ["| " + " | ".join(cell(row, of) for _, of in columns) + " |" for row in rows]
    return "\n".join(lines)


LOADED = [
    ("per second", "per_second"),
    ("CPU s per 1,000", "cpu_s_per_1000"),
    ("of the database", "database_cpu_s_per_1000"),
    ("MiB, idle", "idle_mib"),
    ("under load", "memory_mib"),
]
LATE = [("p50 ms", "p50_ms"), ("p99 ms", "p99_ms")]
BESIDE = [("× relay's rate", "ratio_per_second"), ("× relay's CPU", "ratio_cpu")]


def tables_of(sections):
    """By the name of the marker: what is made of which section, and how."""
    def rows(name):
        return sections[name]["rows"]

    def plain(name, *columns):
        return table(having(rows(name), *(of for _, of in columns)), columns)

    compared = ("no plugin", "a filter", "a platform")
    return {
        "relay": lambda: table(
            [it for it in rows("relay") if it in where_systems(rows("relay"))],
            [("load", "load"), ("", "system"), *LOADED, *BESIDE]),
        "plugins": lambda: table(
            [it for it in rows("relay") if it["system"] in compared],
            [("load", "load"), ("", "system"), *LOADED[:2], *BESIDE]),
        "rates": lambda: table(
            rows("rates"),
            [("load", "load"), ("", "system"), ("asked per second", "asked_per_second"),
             LOADED[0], *LATE, *LOADED[1:3]]),
        "backlog": lambda: table(
            having(rows("backlog"), "system"),
            [("waiting", "waiting"), ("store", "store"), ("", "system"), LOADED[0], *LATE,
             *LOADED[1:3], LOADED[4], ("× CPU of empty", "ratio_cpu")]),
        "filled": lambda: plain(
            "backlog", ("waiting", "waiting"), ("store", "store"),
            ("events taken in per second", "taken_in_per_second"),
            ("MiB", "memory_mib"), ("MiB at most", "memory_most_mib")),
        "start": lambda: plain(
            "backlog", ("waiting", "waiting"), ("store", "store"), ("ms to listening", "listening_ms"),
            ("MiB at most", "memory_most_mib"), ("ms to the first delivery", "first_delivery_ms")),
        "nodes": lambda: table(rows("nodes"), [("", "system"), LOADED[0], *LATE, *LOADED[1:3],
                                               ("MiB of the largest", "memory_mib")]),
        "stores": lambda: plain(
            "stores", ("load", "load"), ("per second", "per_second"),
            ("statements an event", "statements"), ("commits", "commits"),
            ("bytes of WAL", "wal_bytes"), ("connections", "connections"),
            ("ms idle in a transaction, at most", "idle_in_transaction_ms")),
        "held-up": lambda: plain(
            "stores", ("long transactions", "long_transactions"), ("for s in all", "seconds"),
            ("per second", "per_second"), *LATE, ("behind, 1st third", "behind_first_third"),
            ("2nd", "behind_second_third"), ("3rd", "behind_last_third")),
        "isolation": lambda: plain(
            "isolation", ("endpoints", "bad"), ("× rate of the others", "per_endpoint_ratio"),
            ("p99 ms of the others", "p99_ms"), ("where all are well", "p99_ms_all_well")),
        "log": lambda: plain(
            "log", ("", "when"), ("deliveries in the log", "deliveries"), ("median ms", "first_page_ms"),
            ("slowest ms", "worst_ms"), ("which", "worst_filter")),
        "searched": lambda: plain("log", ("", "when"), ("deliveries in the log", "deliveries"),
                                  LOADED[0], *LATE),
        "guest": lambda: plain("guest", ("call", "call"), ("guest µs", "guest_us"),
                               ("native µs", "native_us"), ("ratio", "ratio")),
        "subscriptions": lambda: plain(
            "subscriptions", ("subscriptions", "subscriptions"),
            ("CPU µs an event", "cpu_us_per_event"), ("ms to change one", "change_ms"),
            ("ms to reload the folder", "reload_ms"), ("MiB", "memory_mib")),
        "reload": lambda: plain("reload", ("changed", "changed"), ("routes", "routes"),
                                ("ms", "took_ms")),
    }


# Several tables and a picture come of these.
SECTION_OF = {
    "plugins": "relay", "filled": "backlog", "start": "backlog", "held-up": "stores",
    "searched": "log",
}
PICTURES_OF = {
    "relay": draw_relay, "rates": draw_rates, "backlog": draw_backlog, "nodes": draw_nodes,
}


def machine(results):
    it = results["machine"]
    commits = sorted({section["commit"] or "?" for section in results["sections"].values()})
    dates = sorted({section["date"] for section in results["sections"].values()})
    rounds = sorted({section["round_s"] for section in results["sections"].values()})
    rows = [
        ("processor", f"{it['cpu']}, {it['cores']} cores"),
        ("memory", f"{shown(it['memory_gib'])} GiB"),
        ("kernel", it["kernel"]),
        ("disk", f"{it['filesystem']}; a page of 4 KiB and its fsync take "
                 f"{shown(it['fsync_p50_ms'])} ms (p50), {shown(it['fsync_p99_ms'])} ms (p99)"),
        ("PostgreSQL", it["postgres"].split()[0]),
        ("compiler", it["rustc"].split(" (")[0]),
        ("measured", f"{' to '.join(sorted({dates[0], dates[-1]}))}, commit {', '.join(commits)}; "
                     f"rounds of {' and '.join(map(str, rounds))} s"),
    ]
    return "\n".join(["| | |", "|---|---|"] + [f"| {name} | {text} |" for name, text in rows])


def write_page(results):
    sections = results["sections"]
    tables = tables_of(sections)

    def fill(marker):
        name = marker.group(1)
        if name == "machine":
            text = machine(results)
        elif SECTION_OF.get(name, name) in sections:
            text = tables[name]()
            if text.count("\n") < 2:
                raise SystemExit(f"{RESULTS}: nothing for the table `{name}`")
            it = sections[SECTION_OF.get(name, name)]
            print(f"docs/performance.md: {name}, of {it['date']}, commit {it['commit']}")
        else:
            # It was not measured here: what stands there stays.
            return marker.group(0)
        return f"<!-- bench: {name} -->\n{text}\n<!-- end -->"

    page = PAGE.read_text()
    found = set(re.findall(r"<!-- bench: (\S+) -->", page))
    if found != {*tables, "machine"}:
        raise SystemExit(f"{PAGE}: markers and tables differ: {found ^ {*tables, 'machine'}}")
    PAGE.write_text(re.sub(r"<!-- bench: (\S+) -->\n.*?<!-- end -->", fill, page, flags=re.S))


def main():
    if not RESULTS.exists():
        raise SystemExit(f"{RESULTS} is not there: run `make bench` first")
    results = json.loads(RESULTS.read_text())
    for name, draw in PICTURES_OF.items():
        if name in results["sections"]:
            draw(results["sections"][name]["rows"])
    write_page(results)


main()
