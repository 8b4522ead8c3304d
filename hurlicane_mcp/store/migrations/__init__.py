"""Schema migrations. A database that is up to date is recognised without loading alembic."""

from pathlib import Path

from sqlalchemy import Engine, inspect, text

from hurlicane_mcp.errors import Invalid

HEAD = "0005"


def migrate(engine: Engine) -> None:
    """Bring the schema of *engine*'s database up to `HEAD`.

    Raises:
        Invalid: the database was written by a newer version of this program.
    """
    current = revision(engine)
    if current == HEAD:
        return
    # Alembic costs 150 ms of start-up and 10 MB, which only a first start has to pay.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Invalid(
                f"The database has schema {current}, this program knows up to {HEAD}: "
                "upgrade hurlicane-mcp, or name another data directory."
            ) from error


def revision(engine: Engine) -> str | None:
    """The schema's revision; None for an empty database."""
    if not inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
