"""Migration files of two future versions: the first expands the schema, the second contracts it."""

import shutil
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

from worker.ledger.database import write_transaction
from worker.ledger.migrate import MIGRATIONS

EXPANDED, CONTRACTED = "9001", "9002"
EXPANDS = '''"""Add a column with a default, and an index."""

import sqlalchemy as sa
from alembic import op

revision = "9001"
down_revision = "{head}"


def upgrade() -> None:
    op.add_column("gradings", sa.Column("priority", sa.SmallInteger(), server_default=sa.text("1"), nullable=False))
    op.create_index("ix_gradings_priority", "gradings", ["priority"])
'''
CONTRACTS = '''"""Drop a column that versions before the expanded one write."""

from alembic import op

from worker.ledger.migrations.compatibility import set_minimum_revision

revision = "9002"
down_revision = "9001"


def upgrade() -> None:
    op.drop_column("gradings", "disagreement")
    set_minimum_revision("9001")
'''


def write_later(versions: Path) -> None:
    """Write both files to the folder of this version's migrations."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    head = ScriptDirectory.from_config(config).get_current_head()
    (versions / "9001_expand.py").write_text(EXPANDS.format(head=head))
    (versions / "9002_contract.py").write_text(CONTRACTS)


def migrate_to(revision: str, engine: Engine, folder: Path) -> None:
    """Migrate the ledger to a future revision, with a copy of the migrations in `folder`."""
    shutil.copytree(MIGRATIONS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    write_later(folder / "versions")
    config = Config()
    config.set_main_option("script_location", str(folder))
    with write_transaction(engine) as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
