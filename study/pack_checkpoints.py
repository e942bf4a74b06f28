"""Checkpoints of packs in flight, in the study's folder: kept by workers, found by the driver."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

from study.packing import PlannedPack
from study.planning import PlannedTrial
from study.storage import Folder, StorageError
from trainables.checkpoints import read_members

__all__ = ["FolderCheckpoints", "find_resumable"]


@dataclass(frozen=True)
class FolderCheckpoints:
    """A `CheckpointStore`: `checkpoints/<pack_id>.safetensors` in a study's folder.

    Attributes:
        folder: The study's folder, on storage that every worker reaches. If it is a
            `DriverFolder`, whoever loads or deletes a checkpoint waits for storage that fails.
    """

    folder: Folder

    def load(self, pack_id: str) -> bytes | None:
        """Return the pack's last checkpoint, if there is one.

        Raises:
            StorageError: There may be one, and it cannot be read.
        """
        file = _file(pack_id)
        return self.folder.read_bytes(file) if self.folder.exists(file) else None

    def save(self, pack_id: str, checkpoint: bytes) -> str | None:
        """Replace the pack's checkpoint, whole or not at all; keep the old one if storage fails.

        Training goes on then, and does not wait: an older checkpoint costs epochs, and only if the
        worker dies too.

        Returns:
            Why it could not be saved; None if it was.
        """
        try:
            self.folder.plain.write_whole(_file(pack_id), checkpoint)
        except StorageError as error:
            return str(error)
        return None

    def delete(self, pack_id: str) -> None:
        """Remove the checkpoint of a pack that is done."""
        self.folder.delete(_file(pack_id))

    def delete_all(self) -> None:
        """Remove what is left when no trial waits any more."""
        for file in self.folder.files("checkpoints", ".safetensors"):
            self.folder.delete(f"checkpoints/{file}")


def find_resumable(
    folder: Folder, waiting: Mapping[str, PlannedTrial], done: Set[str]
) -> list[PlannedPack]:
    """Return the packs to go on from their checkpoints; remove checkpoints of no further use.

    A checkpoint is of use while all its members wait. One that cannot be read, or is of another
    numerics version, is removed: its trials start over.

    Args:
        folder: The study's folder.
        waiting: Trials to run, by id.
        done: Ids of committed trials.
    """
    store = FolderCheckpoints(folder)
    packs: list[PlannedPack] = []
    taken: set[str] = set()
    for file in sorted(folder.files("checkpoints", ".safetensors")):
        pack_id = file.removesuffix(".safetensors")
        try:
            members = read_members(store.load(pack_id) or b"")
        except ValueError:
            members = []
        if members and waiting.keys() >= set(members) and not taken & set(members):
            packs.append(PlannedPack(pack_id, tuple(waiting[member] for member in members)))
            taken |= set(members)
        elif not members or done & set(members):
            store.delete(pack_id)
    return packs


def _file(pack_id: str) -> str:
    return f"checkpoints/{pack_id}.safetensors"
