"""The schema: what the migrations build is what the models say."""

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text
from sqlmodel import SQLModel

from hurlicane_mcp.errors import Invalid
from hurlicane_mcp.store import limit_tables, lock_tables, migrations, tables, workflow_tables
from hurlicane_mcp.store.database import open_engine


def test_the_migrated_schema_is_the_one_of_the_models(database_url: str) -> None:
    engine = open_engine(database_url)
    migrations.migrate(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        difference = [
            one
            for one in compare_metadata(context, SQLModel.metadata)
            if "ix_job_queue" not in str(one)  # an expression, which cannot be read back
        ]
    names = {index["name"] for index in inspect(engine).get_indexes("job")}
    engine.dispose()
    assert difference == []
    known = (
        tables.JobRow,
        limit_tables.UsageRow,
        workflow_tables.PhaseRow,
        lock_tables.FileLockRow,
    )
    assert [one.__name__ for one in known] == ["JobRow", "UsageRow", "PhaseRow", "FileLockRow"]
    assert "ix_job_parent_id" in names


def test_migrating_twice_changes_nothing(database_url: str) -> None:
    engine = open_engine(database_url)
    migrations.migrate(engine)
    migrations.migrate(engine)
    assert migrations.revision(engine) == migrations.HEAD
    engine.dispose()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_current_head() == migrations.HEAD


def test_a_database_of_a_newer_program_is_refused(database_url: str) -> None:
    engine = open_engine(database_url)
    migrations.migrate(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Invalid, match="has schema 9999"):
        migrations.migrate(engine)
    engine.dispose()
