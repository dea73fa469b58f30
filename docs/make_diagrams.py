"""Draw the diagrams of the documentation as SVG that reads on light and dark pages.

python -m docs.make_diagrams

Boxes have a fill and text of their own; lines and labels use a grey with enough contrast on white and on black.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

FOLDER = Path(__file__).parent / "diagrams"
LINE = "#7a8490"
FILLS = {
    "person": ("#fff3d6", "#c98a00"),
    "program": ("#dcebff", "#2f6fbf"),
    "service": ("#e3f4e4", "#2e8540"),
    "state": ("#eceff3", "#66707c"),
    "final": ("#e3f4e4", "#2e8540"),
    "fault": ("#fde4e1", "#c0392b"),
}
"""Fill and border of each kind of box."""
FONT = "font-family='system-ui, -apple-system, Segoe UI, Roboto, sans-serif'"


@dataclass(frozen=True)
class Box:
    """A rounded box: position and size in px, a title and lines of small text below it."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    title: str
    lines: tuple[str, ...] = ()

    def draw(self) -> str:
        """SVG of the box with its text centred."""
        fill, border = FILLS[self.kind]
        middle = self.x + self.width / 2
        top = self.y + self.height / 2 - 9 * len(self.lines) + 5
        text = [f"<text x='{middle}' y='{top}' font-size='15' font-weight='600'>{escape(self.title)}</text>"]
        text += [
            f"<text x='{middle}' y='{top + 18 * number}' font-size='12.5'>{escape(line)}</text>"
            for number, line in enumerate(self.lines, 1)
        ]
        return (
            f"<rect x='{self.x}' y='{self.y}' width='{self.width}' height='{self.height}' rx='8' fill='{fill}' "
            f"stroke='{border}' stroke-width='1.5'/><g fill='#1b1f24' text-anchor='middle'>{''.join(text)}</g>"
        )


@dataclass(frozen=True)
class Arrow:
    """A polyline with a head at its end; `label` is drawn at `at`."""

    points: tuple[tuple[int, int], ...]
    label: str = ""
    at: tuple[int, int] = (0, 0)
    anchor: str = "middle"
    dashed: bool = False

    def draw(self) -> str:
        """SVG of the line and its label."""
        path = " ".join(f"{x},{y}" for x, y in self.points)
        dash = " stroke-dasharray='5 4'" if self.dashed else ""
        label = (
            f"<text x='{self.at[0]}' y='{self.at[1]}' font-size='12.5' fill='{LINE}' text-anchor='{self.anchor}'>"
            f"{escape(self.label)}</text>"
            if self.label
            else ""
        )
        return (
            f"<polyline points='{path}' fill='none' stroke='{LINE}' stroke-width='1.6' marker-end='url(#head)'{dash}/>"
            f"{label}"
        )


@dataclass(frozen=True)
class Frame:
    """A dashed frame around boxes, with a caption at its top left."""

    x: int
    y: int
    width: int
    height: int
    caption: str

    def draw(self) -> str:
        """SVG of the frame."""
        return (
            f"<rect x='{self.x}' y='{self.y}' width='{self.width}' height='{self.height}' rx='10' fill='none' "
            f"stroke='{LINE}' stroke-dasharray='3 4'/><text x='{self.x + 12}' y='{self.y + 20}' font-size='12.5' "
            f"fill='{LINE}'>{escape(self.caption)}</text>"
        )


@dataclass(frozen=True)
class Diagram:
    """A drawing of given size in px; `title` is its alternative text."""

    title: str
    width: int
    height: int
    parts: Sequence[Box | Arrow | Frame]

    def draw(self) -> str:
        """The whole SVG document."""
        body = "\n".join(part.draw() for part in self.parts)
        return (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {self.width} {self.height}' width='{self.width}' "
            f"height='{self.height}' role='img' {FONT}>\n<title>{escape(self.title)}</title>\n"
            "<defs><marker id='head' viewBox='0 0 10 10' refX='9' refY='5' markerWidth='8' markerHeight='8' "
            f"orient='auto-start-reverse'><path d='M0 0 L10 5 L0 10 z' fill='{LINE}'/></marker></defs>\n"
            f"{body}\n</svg>\n"
        )


PARTS = Diagram(
    "Producers register images in the SQL ledger and send chunks of ids through the broker; workers fetch photographs, "
    "grade and explain them, upload overlays and settle rows in the ledger; operators and graders read the ledger.",
    920,
    430,
    (
        Box(20, 40, 180, 70, "service", "Photographs", ("folder, S3 bucket,", "manifest, .npy stack")),
        Box(20, 180, 180, 70, "program", "Producer", ("fundus enqueue", "fundus nightly")),
        Box(280, 180, 170, 70, "service", "Broker", ("Redis, Valkey, RabbitMQ", "queues live and bulk")),
        Box(
            530,
            150,
            190,
            130,
            "program",
            "GPU workers",
            ("Celery, one per device", "batch, grade, explain", "", "reconciler"),
        ),
        Box(530, 40, 190, 70, "service", "Object storage", ("overlays, reports", "S3 or folder")),
        Box(
            280,
            330,
            440,
            70,
            "service",
            "Ledger",
            ("one row per image: queued, graded, ungradable, failed, quarantined", "PostgreSQL or SQLite"),
        ),
        Box(780, 150, 120, 50, "person", "Operators", ("Flower, status",)),
        Box(780, 230, 120, 50, "person", "Graders", ("review console",)),
        Arrow(((110, 110), (110, 180)), "references", (118, 150), "start"),
        Arrow(((200, 215), (280, 215)), "ids", (238, 206)),
        Arrow(((450, 215), (530, 215)), "chunks", (490, 206)),
        Arrow(((200, 75), (370, 75), (540, 150)), "image bytes", (330, 66)),
        Arrow(((625, 150), (625, 110)), "overlays", (633, 135), "start"),
        Arrow(((625, 280), (625, 330)), "lease, settle", (633, 310), "start"),
        Arrow(((110, 250), (110, 365), (280, 365)), "register rows first", (120, 356), "start"),
        Arrow(((780, 175), (720, 185))),
        Arrow(((840, 280), (840, 365), (720, 365)), "reviews", (832, 385), "end"),
        Arrow(((530, 265), (365, 265), (365, 250)), "re-send missing", (450, 283), dashed=True),
    ),
)

STATES = Diagram(
    "The life of a row in the ledger: queued, leased by a worker, then settled as graded, ungradable, failed or "
    "quarantined.",
    920,
    360,
    (
        Box(40, 140, 140, 60, "state", "queued", ("attempts = 0",)),
        Box(350, 140, 160, 60, "state", "queued, leased", ("attempts + 1",)),
        Box(700, 30, 170, 50, "final", "graded", ("grade, overlay",)),
        Box(700, 100, 170, 50, "final", "ungradable", ("reason code",)),
        Box(700, 170, 170, 50, "fault", "failed", ("error code",)),
        Box(700, 240, 170, 50, "fault", "quarantined", ("last error",)),
        Box(40, 280, 140, 50, "state", "cancelled"),
        Arrow(((180, 160), (350, 160)), "lease, then commit", (262, 150)),
        Arrow(((350, 185), (180, 185)), "service away: release", (265, 203), dashed=True),
        Arrow(((510, 150), (600, 150), (600, 55), (700, 55)), "settle", (555, 142)),
        Arrow(((510, 160), (650, 160), (650, 125), (700, 125))),
        Arrow(((510, 180), (650, 180), (650, 195), (700, 195)), "image at fault", (580, 196)),
        Arrow(((430, 200), (430, 265), (700, 265)), "worker died with it 3 times", (565, 257)),
        Arrow(((110, 200), (110, 280)), "fundus cancel", (102, 245), "end"),
        Arrow(
            ((785, 290), (785, 325), (215, 325), (215, 245), (160, 245), (160, 200)),
            "fundus resend --failed, --ungradable, --quarantined",
            (520, 343),
            dashed=True,
        ),
        Arrow(
            ((430, 140), (430, 60), (110, 60), (110, 140)),
            "worker died: lease ends, the reconciler re-sends",
            (270, 50),
            dashed=True,
        ),
    ),
)

IMAGE = Diagram(
    "The path of one image through a worker: lease, fetch, decode, find field, assess gradability, enhance, batch, "
    "network, decide grade, draw overlay, upload, settle, acknowledge.",
    920,
    330,
    (
        Frame(250, 15, 650, 110, "decoding process (sandbox): worker/imaging/"),
        Frame(20, 155, 880, 160, "worker process: worker/inference/"),
        Box(40, 190, 110, 50, "program", "lease", ("ledger",)),
        Box(180, 190, 110, 50, "program", "fetch", ("core/storage",)),
        Box(270, 50, 110, 50, "program", "decode", ("at scale",)),
        Box(400, 50, 110, 50, "program", "find field", ("round border",)),
        Box(530, 50, 120, 50, "program", "gradability", ("or: ungradable",)),
        Box(670, 50, 110, 50, "program", "enhance", ("model's recipe",)),
        Box(320, 190, 100, 50, "program", "batch", ("across chunks",)),
        Box(450, 190, 130, 50, "program", "network", ("5 outputs, map",)),
        Box(610, 190, 120, 50, "program", "decide grade", ("thresholds",)),
        Box(760, 190, 120, 50, "program", "draw overlay"),
        Box(610, 255, 120, 46, "program", "upload", ("then commit",)),
        Box(450, 255, 130, 46, "program", "settle", ("the whole chunk",)),
        Box(290, 255, 130, 46, "program", "acknowledge"),
        Arrow(((150, 215), (180, 215))),
        Arrow(((235, 190), (235, 75), (270, 75)), "bytes", (228, 140), "end"),
        Arrow(((380, 75), (400, 75))),
        Arrow(((510, 75), (530, 75))),
        Arrow(((650, 75), (670, 75))),
        Arrow(((780, 75), (840, 75), (840, 140), (370, 140), (370, 190)), "pixels (shared memory)", (620, 134)),
        Arrow(((420, 215), (450, 215))),
        Arrow(((580, 215), (610, 215))),
        Arrow(((730, 215), (760, 215))),
        Arrow(((820, 240), (820, 278), (730, 278))),
        Arrow(((610, 278), (580, 278))),
        Arrow(((450, 278), (420, 278))),
    ),
)

PROCESSES = Diagram(
    "One worker: the Celery process with its threads, the decoding processes, and the services it talks to.",
    920,
    360,
    (
        Frame(20, 20, 620, 320, "worker process, one per GPU: Celery with --pool threads"),
        Box(40, 60, 170, 60, "program", "consumer thread", ("broker, heartbeat",)),
        Box(40, 150, 170, 60, "program", "chunk threads", ("one chunk each",)),
        Box(250, 150, 170, 60, "program", "pipeline thread", ("event loop of all chunks",)),
        Box(450, 60, 170, 60, "program", "batcher thread", ("runs the network",)),
        Box(450, 150, 170, 60, "program", "transfer threads", ("downloads, uploads",)),
        Box(40, 240, 170, 70, "program", "lease renewal", ("periodic thread",)),
        Box(250, 240, 170, 70, "program", "reconciler", ("periodic thread",)),
        Box(450, 240, 170, 70, "program", "watchdog", ("ends a stalled worker",)),
        Frame(680, 20, 220, 320, "children"),
        Box(700, 60, 180, 60, "fault", "decoding process", ("untrusted bytes",)),
        Box(700, 150, 180, 60, "fault", "decoding process", ("no secrets, limits",)),
        Box(700, 240, 180, 70, "fault", "...", ("one for each core",)),
        Arrow(((125, 120), (125, 150))),
        Arrow(((210, 180), (250, 180)), "ids", (230, 172)),
        Arrow(((420, 170), (450, 170))),
        Arrow(((335, 150), (335, 90), (450, 90)), "batches", (390, 82)),
        Arrow(((420, 195), (435, 195), (435, 222), (660, 222), (660, 90), (700, 90)), "bytes, pixels", (560, 232)),
    ),
)

DIAGRAMS = {"parts": PARTS, "row-states": STATES, "image-path": IMAGE, "processes": PROCESSES}


def generated_diagrams() -> dict[Path, str]:
    """The text of each SVG, by its path."""
    return {FOLDER / f"{name}.svg": diagram.draw() for name, diagram in DIAGRAMS.items()}


if __name__ == "__main__":
    for path, text in generated_diagrams().items():
        path.write_text(text, encoding="utf-8")
