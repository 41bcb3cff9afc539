"""Every valid rosbag2, and many that are not: what can be read is, what is lost is said, nothing is a traceback."""

from __future__ import annotations

import random
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lz4.frame
import pytest
import yaml
import zstandard
from mcap.writer import CompressionType, IndexType, Writer

from proxqa_core.errors import BadImageError, ProxqaError
from proxqa_core.rosbags.bag import BadBagError, Bag
from proxqa_core.rosbags.image_messages import image_to_rgb
from tests import made_bag as made

STAMPS = [made.START + i * made.PERIOD for i in range(6)]
Warnings = pytest.LogCaptureFixture


def write_mcap(
    path: Path,
    messages: Sequence[made.Message],
    others: Sequence[tuple[str, str, str]] = (),
    channels_each: int = 1,
    types: Callable[[str], str] = str,
    finish: bool = True,
    **options: Any,
) -> Path:
    """An MCAP file by its own library. others: schema encoding, message encoding, type of channels beside ROS 2's.

    channels_each: number of channels of one topic. options: of mcap's writer.
    """
    with path.open("wb") as out:
        writer = Writer(out, **options)
        writer.start("ros2")
        for i, (schema, encoding, kind) in enumerate(others):
            number = writer.register_channel(f"/other{i}", encoding, writer.register_schema(kind, schema, b"{}"))
            writer.add_message(number, made.START, b"{}", made.START)
        schemas: dict[str, int] = {}
        channels: dict[tuple[str, int], int] = {}
        for i, (topic, stamp, message) in enumerate(messages):
            kind = message.__msgtype__
            if kind not in schemas:
                text = made.STORE.generate_msgdef(kind, ros_version=2)[0].encode()
                schemas[kind] = writer.register_schema(types(kind), "ros2msg", text)
            key = (topic, i // 2 % channels_each)
            if key not in channels:
                channels[key] = writer.register_channel(
                    topic, "cdr", schemas[kind], {"offered_qos_profiles": "junk: ["}
                )
            writer.add_message(channels[key], stamp, bytes(made.STORE.serialize_cdr(message, kind)), stamp)
        if finish:
            writer.finish()
        else:
            writer.flush()
    return path


def images() -> list[made.Message]:
    return [(made.IMAGES, stamp, made.raw(stamp, made.picture(i))) for i, stamp in enumerate(STAMPS)]


def check_images(path: Path, count: int = 6) -> list[str]:
    """All images are there, in order, as they were written. Returns the bag's problems."""
    with Bag(path) as bag:
        topic = bag.image_topic()
        messages = list(bag.messages(topic))
        assert [m.time for m in messages] == STAMPS[:count] and topic.count == count
        for i, m in enumerate(messages):
            assert (image_to_rgb(bag.decode(m)) == made.picture(i)).all()
        assert [m.time for m in bag.messages(topic, start=STAMPS[1], stop=STAMPS[3])] == STAMPS[:count][1:3]
        return bag.problems


# -- MCAP -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize(
    "options",
    [
        {"use_chunking": False},
        {"use_chunking": False, "use_statistics": False, "repeat_channels": False, "index_types": IndexType.NONE},
        {"chunk_size": 10_000},
        {"chunk_size": 10_000, "index_types": IndexType.NONE},
        {"chunk_size": 10_000, "index_types": IndexType.CHUNK},
        {"chunk_size": 10_000, "index_types": IndexType.MESSAGE, "use_statistics": False},
        {"chunk_size": 10_000, "repeat_channels": False, "repeat_schemas": False, "use_summary_offsets": False},
        {"enable_crcs": False, "enable_data_crcs": True},
    ],
)
def test_mcap_with_and_without_what_is_optional(
    tmp_path: Path, options: dict[str, Any], compression: CompressionType
) -> None:
    assert check_images(write_mcap(tmp_path / "a.mcap", images(), compression=compression, **options)) == []


@pytest.mark.parametrize("options", [{"use_chunking": False}, {"chunk_size": 5000}, {}])
def test_mcap_out_of_time_order(tmp_path: Path, options: dict[str, Any]) -> None:
    shuffled = images()
    random.Random(1).shuffle(shuffled)
    assert check_images(write_mcap(tmp_path / "a.mcap", shuffled, **options)) == []


@pytest.mark.parametrize("options", [{"use_chunking": False}, {"chunk_size": 5000}])
def test_several_channels_of_one_topic(tmp_path: Path, options: dict[str, Any]) -> None:
    assert check_images(write_mcap(tmp_path / "a.mcap", images(), channels_each=3, **options)) == []


@pytest.mark.parametrize("types", [lambda kind: kind.replace("/msg/", "/"), lambda kind: kind.replace("/", "::")])
def test_types_by_their_other_names(tmp_path: Path, types: Callable[[str], str]) -> None:
    assert check_images(write_mcap(tmp_path / "a.mcap", images(), types=types)) == []


OTHERS = [
    ("jsonschema", "json", "foxglove.Log"),
    ("protobuf", "protobuf", "foxglove.CompressedImage"),
    ("ros1msg", "ros1", "sensor_msgs/Image"),
    ("flatbuffer", "flatbuffer", "x"),
    ("", "cbor", ""),
]


@pytest.mark.parametrize("chunked", [True, False])
def test_other_encodings_are_named_and_left_out(tmp_path: Path, caplog: Warnings, chunked: bool) -> None:
    path = write_mcap(tmp_path / "a.mcap", images(), OTHERS, use_chunking=chunked)
    check_images(path)
    for i, (_, encoding, _) in enumerate(OTHERS):
        assert f"/other{i} ({encoding})" in caplog.text
    alone = write_mcap(tmp_path / "b.mcap", [], OTHERS)
    with (
        Bag(alone) as bag,
        pytest.raises(BadBagError, match=r"topics: none; not ROS 2's \(cdr\): /other0 \(json\)"),
    ):
        bag.image_topic()


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunked", [True, False])
def test_what_a_killed_recorder_left(
    tmp_path: Path, caplog: Warnings, chunked: bool, compression: CompressionType
) -> None:
    path = write_mcap(
        tmp_path / "a.mcap", images(), finish=False, use_chunking=chunked, chunk_size=10_000, compression=compression
    )
    with Bag(path) as bag:
        count = bag.image_topic().count
        assert "a.mcap is cut" in bag.problems[0] and f"{count} messages can be read" in bag.problems[0]
    assert "a.mcap is cut" in caplog.text
    assert count >= 5
    check_images(path, count)


@pytest.mark.parametrize("compression", list(CompressionType))
@pytest.mark.parametrize("chunk_size", [1000, 1_000_000])
def test_a_file_cut_anywhere(tmp_path: Path, compression: CompressionType, chunk_size: int) -> None:
    """Inside a chunk, too, whose first messages are there: all images before the cut are read."""
    whole = write_mcap(tmp_path / "a.mcap", images(), compression=compression, chunk_size=chunk_size).read_bytes()
    cut, counts = tmp_path / "cut.mcap", []
    for part in range(1, 20):
        cut.write_bytes(whole[: len(whole) * part // 20])
        try:
            with Bag(cut) as bag:
                assert bag.problems
                counts.append(sum(t.count for t in bag.topics()))
        except BadBagError as error:
            assert "is cut" in str(error) and "\n" not in str(error)
            counts.append(0)
        else:
            if counts[-1]:
                check_images(cut, counts[-1])
    assert counts == sorted(counts) and counts[0] == 0
    if chunk_size == 1000 or compression != CompressionType.LZ4:  # whose blocks have 64 KB, more than all images
        assert counts[-1] >= 5 and counts[10] >= 2


def test_a_damaged_chunk_costs_its_own_messages(tmp_path: Path) -> None:
    path = write_mcap(tmp_path / "a.mcap", images(), chunk_size=10, compression=CompressionType.NONE)
    content = bytearray(path.read_bytes())
    at = content.index(made.picture(2).tobytes()[:40])
    content[at] ^= 0xFF
    path.write_bytes(content)
    with Bag(path) as bag:
        messages = list(bag.messages(bag.image_topic()))
        assert [m.time for m in messages] == STAMPS
        assert [bool(m.raw) for m in messages] == [True, True, False, True, True, True]
        assert "checksum" in bag.problems[0]
        with pytest.raises(BadImageError):
            bag.decode(messages[2])


def test_reading_is_linear(tmp_path: Path) -> None:
    """Ten times the messages take about ten times as long, not a hundred times."""
    seconds = []
    for count in (500, 5000):
        stamps = [made.START + i * 10**6 for i in range(count)]
        tiny = made.picture()[:2, :2]
        path = write_mcap(tmp_path / f"{count}.mcap", [("/i", s, made.raw(s, tiny)) for s in stamps], chunk_size=2000)
        started = time.perf_counter()
        with Bag(path) as bag:
            topic = bag.topics()[0]
            assert sum(1 for _ in bag.messages(topic)) == count
            for s in stamps[::10]:
                assert [m.time for m in bag.messages(topic, start=s, stop=s + 1)] == [s]
        seconds.append(time.perf_counter() - started)
    assert seconds[1] < 40 * seconds[0]


# -- SQLite -----------------------------------------------------------------------------------------------------------


def database(folder: Path) -> Path:
    (file,) = folder.glob("*.db3")
    return file


def with_log(tmp_path: Path, journal: str = "WAL") -> Path:
    """A bag as it lies there when the recorder is killed: its last four images are in the log only."""
    bag = made.write(tmp_path / "bag", images())
    connection = sqlite3.connect(database(bag))
    connection.execute(f"PRAGMA journal_mode={journal}")
    connection.execute("PRAGMA wal_autocheckpoint=0")
    rows = connection.execute("SELECT topic_id, timestamp, data FROM messages ORDER BY timestamp").fetchall()
    put = "INSERT INTO messages(topic_id, timestamp, data) VALUES (?, ?, ?)"
    connection.execute("DELETE FROM messages")
    connection.executemany(put, rows[:2])
    connection.commit()
    connection.execute("PRAGMA wal_checkpoint(FULL)")
    connection.executemany(put, rows[2:])
    connection.commit()
    shutil.copytree(bag, tmp_path / "killed")
    connection.close()
    return tmp_path / "killed"


@pytest.mark.parametrize("metadata", [True, False])
@pytest.mark.parametrize("shared_memory", [True, False])
def test_messages_in_the_log_are_read(tmp_path: Path, metadata: bool, shared_memory: bool) -> None:
    killed = with_log(tmp_path)
    if not shared_memory:
        database(killed).with_suffix(".db3-shm").unlink()
    if not metadata:
        (killed / "metadata.yaml").unlink()
    before = database(killed).read_bytes()
    check_images(killed)
    check_images(database(killed))
    assert database(killed).read_bytes() == before


def test_a_log_without_its_file_is_no_bag(tmp_path: Path) -> None:
    killed = with_log(tmp_path)
    log = database(killed).with_suffix(".db3-wal")
    with pytest.raises(BadBagError, match="is neither SQLite nor MCAP"):
        Bag(log)


def test_a_transaction_that_was_broken_off_is_refused(tmp_path: Path) -> None:
    """Its pages are half old, half new, until SQLite has undone it."""
    bag = made.write(tmp_path / "bag", images())
    connection = sqlite3.connect(database(bag), isolation_level=None)
    for setup in ("journal_mode = DELETE", "cache_size = 5", "cache_spill = 1"):
        connection.execute(f"PRAGMA {setup}")
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(10):
        connection.execute(
            "INSERT INTO messages(topic_id, timestamp, data) SELECT topic_id, 5, data FROM messages LIMIT 6"
        )
        connection.execute("UPDATE messages SET timestamp = timestamp + 1")
    shutil.copytree(bag, tmp_path / "killed")
    connection.close()
    with pytest.raises(BadBagError, match=r"bag\.db3-journal beside it cannot be used .*`sqlite3 bag\.db3 \.tables`"):
        Bag(tmp_path / "killed")
    sqlite3.connect(database(tmp_path / "killed")).execute("SELECT name FROM sqlite_master").fetchall()
    check_images(tmp_path / "killed")


@pytest.mark.parametrize("version", [1, 2, 3])
def test_older_schemas(tmp_path: Path, version: int) -> None:
    """Without definitions, without hashes, without QoS, as they were before."""
    bag = made.write(tmp_path / "bag", images())
    connection = sqlite3.connect(database(bag))
    connection.execute("DROP TABLE message_definitions")
    connection.execute("DROP TABLE metadata")
    if version < 3:
        connection.execute("DROP TABLE schema")
    connection.execute("ALTER TABLE topics DROP COLUMN type_description_hash")
    if version < 2:
        connection.execute("ALTER TABLE topics DROP COLUMN offered_qos_profiles")
    connection.execute("DROP INDEX timestamp_idx")
    connection.commit()
    connection.close()
    check_images(bag)


def test_another_database_is_said_to_be_one(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "a.db3")
    connection.execute("CREATE TABLE robots(name TEXT)")
    connection.close()
    with pytest.raises(BadBagError, match=r"no tables of rosbag2 \(topics, messages\); its tables: robots"):
        Bag(tmp_path / "a.db3")


def test_a_database_cut_anywhere(tmp_path: Path) -> None:
    bag = made.write(tmp_path / "bag", images())
    whole, counts = database(bag).read_bytes(), []
    for part in range(1, 20):
        database(bag).write_bytes(whole[: len(whole) * part // 20])
        try:
            with Bag(bag) as opened:
                assert any("cut" in p for p in opened.problems)
                read = [m for t in opened.topics() for m in opened.messages(t) if m.raw]
                counts.append(len(read))
                assert all((image_to_rgb(opened.decode(m)) == made.picture(STAMPS.index(m.time))).all() for m in read)
        except BadBagError as error:
            assert "\n" not in str(error)
            counts.append(0)
    assert counts == sorted(counts) and counts[-1] >= 3, counts


# -- folders ----------------------------------------------------------------------------------------------------------


def split(tmp_path: Path, storage: str, count: int = 3) -> Path:
    """A bag in several files; their times overlap."""
    folder = tmp_path / "split"
    folder.mkdir()
    suffix = {"mcap": "mcap", "sqlite3": "db3"}[storage]
    names = []
    for i in range(count):
        part = made.write(tmp_path / f"part_{i}", images()[i::count], storage)
        names.append(f"split_{i + 8}.{suffix}")  # split_10 comes after split_9
        next(part.glob(f"*.{suffix}")).rename(folder / names[-1])
    metadata = {"version": 5, "storage_identifier": storage, "relative_file_paths": names}
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": metadata}))
    return folder


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("metadata", ["kept", "removed", "empty"])
def test_split_bags(tmp_path: Path, storage: str, metadata: str) -> None:
    folder = split(tmp_path, storage)
    if metadata == "removed":
        (folder / "metadata.yaml").unlink()
    elif metadata == "empty":
        (folder / "metadata.yaml").write_text("")
    assert check_images(folder) == []


def test_a_missing_part_is_said(tmp_path: Path) -> None:
    folder = split(tmp_path, "mcap")
    (folder / "split_9.mcap").unlink()
    with Bag(folder) as bag:
        assert bag.image_topic().count == 4
        assert bag.problems == ["1 of its 3 files are missing: split_9.mcap"]
    (folder / "split_8.mcap").write_bytes(b"")
    with Bag(folder) as bag:
        assert bag.image_topic().count == 2
        assert "split_8.mcap is empty (0 bytes); its other files are read" in bag.problems


@pytest.mark.parametrize("version", range(1, 10))
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_metadata_of_every_version(tmp_path: Path, storage: str, version: int) -> None:
    bag = made.write(tmp_path / "bag", images(), storage)
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    information = content["rosbag2_bagfile_information"] | {"version": version}
    if version < 4:
        information["relative_file_paths"] = [f"bag/{name}" for name in information["relative_file_paths"]]
    for topic in information["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = "- history: 3\n  depth: 0\n" if version < 9 else []
        if version < 7:
            del topic["topic_metadata"]["type_description_hash"]
    for key, since in (("files", 5), ("custom_data", 6), ("ros_distro", 8), ("compression_mode", 3)):
        if version < since:
            information.pop(key, None)
    (bag / "metadata.yaml").write_text(yaml.safe_dump(content | {"rosbag2_bagfile_information": information}))
    assert check_images(bag) == []
    assert check_images(bag / "metadata.yaml") == []


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_metadata_that_is_not_the_files(tmp_path: Path, storage: str) -> None:
    """Edited QoS, counts and types, and a converted bag with the metadata of the old one: the files have the word."""
    bag = made.write(tmp_path / "bag", images(), storage)
    text = (bag / "metadata.yaml").read_text()
    edited = text.replace("message_count: 6", "message_count: 99").replace(
        "sensor_msgs/msg/Image", "std_msgs/msg/String"
    )
    edited = edited.replace("offered_qos_profiles: []", "offered_qos_profiles: [{reliability: best_effort}]")
    assert edited != text
    (bag / "metadata.yaml").write_text(edited)
    assert check_images(bag) == []
    (bag / "metadata.yaml").write_text(text.replace(".mcap", ".db3x").replace("bag.db3", "bag.old.db3"))
    assert check_images(bag) == []


def _frames(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """As tools that work in parallel write it: one frame after the other."""
    return lambda data: b"".join(compress(data[at : at + 20_000]) for at in range(0, len(data), 20_000))


PACKERS = {"zstd": _frames(lambda data: zstandard.ZstdCompressor().compress(data)), "lz4": _frames(lz4.frame.compress)}


@pytest.mark.parametrize("suffix", ["zstd", "lz4"])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("metadata", [True, False])
def test_compressed_files(tmp_path: Path, storage: str, suffix: str, metadata: bool) -> None:
    bag = made.write(tmp_path / "bag", images(), storage)
    file = next(p for p in bag.iterdir() if p.suffix in (".mcap", ".db3"))
    packed = file.with_name(f"{file.name}.{suffix}")
    packed.write_bytes(PACKERS[suffix](file.read_bytes()))
    file.unlink()
    if not metadata:
        (bag / "metadata.yaml").unlink()
    assert check_images(bag) == []
    assert check_images(packed) == []
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size * 9 // 10])
    with Bag(bag) as opened:
        assert opened.problems and 1 <= opened.image_topic().count <= 6


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("metadata", [True, False])
def test_compressed_messages(tmp_path: Path, storage: str, pack: str, metadata: bool) -> None:
    packed = [
        (topic, stamp, m.__msgtype__, PACKERS[pack](bytes(made.STORE.serialize_cdr(m, m.__msgtype__))))
        for topic, stamp, m in images()
    ]
    bag = made.write(tmp_path / "bag", packed, storage)
    if not metadata:
        (bag / "metadata.yaml").unlink()
    assert check_images(bag) == []
    broken = [(*rest, data[:6] + b"\xff" * 6 + data[12:]) if stamp == STAMPS[1] else (*rest, data)
              for *rest, data in packed for stamp in [rest[1]]]  # fmt: skip
    with Bag(made.write(tmp_path / "broken", broken, storage)) as opened:
        messages = list(opened.messages(opened.image_topic()))
        assert [len(m.raw) > 100 for m in messages] == [True, False, True, True, True, True]


def _pointer(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n")


def _ros1(path: Path) -> None:
    path.write_bytes(b"#ROSBAG V2.0\n" + bytes(50))


def _folder_of_bags(path: Path) -> None:
    made.write(path.with_suffix("") / "one", images())
    path.with_suffix("").rename(path)


def _old_folder(path: Path) -> None:
    path.mkdir()
    (path / "a.bag").write_bytes(b"#ROSBAG V2.0\n")


def _no_names(path: Path) -> None:
    made.write(path, images())
    (path / "metadata.yaml").write_text("rosbag2_bagfile_information: {version: 5}")


def _half_metadata(path: Path) -> None:
    made.write(path, images())
    text = (path / "metadata.yaml").read_text()
    (path / "metadata.yaml").write_text(text[:30] + "\n  - : {")


@pytest.mark.parametrize(
    ("make", "hint"),
    [
        (_pointer, "git lfs pull"),
        (_ros1, "is a bag of ROS 1; convert it with `rosbags-convert"),
        (_old_folder, "is a bag of ROS 1; convert it with `rosbags-convert"),
        (_folder_of_bags, "no bag itself but holds some: .*one"),
        (_no_names, r"relative_file_paths.*ros2 bag reindex .* or give the file inside, .*\.db3"),
        (_half_metadata, r"is no YAML .*ros2 bag reindex .* or give the file inside, .*\.db3"),
        (lambda path: path.mkdir(), r"no metadata.yaml and no file \*\.mcap or \*\.db3"),
        (lambda path: path.write_bytes(bytes(5000)), "zeros only"),
        (lambda path: path.write_bytes(b""), "is empty"),
    ],
)
def test_a_hint_where_it_helps(tmp_path: Path, make: Callable[[Path], Any], hint: str) -> None:
    path = tmp_path / "x.mcap"
    make(path)
    with pytest.raises(BadBagError, match=hint) as caught:
        Bag(path)
    assert "\n" not in str(caught.value)


def test_messages_of_no_topic_are_said(tmp_path: Path) -> None:
    path = made.write(tmp_path / "bag", made.drive(2))
    connection = sqlite3.connect(database(path))
    connection.execute("DELETE FROM topics WHERE name = ?", (made.TRUTH,))
    connection.commit()
    connection.close()
    with Bag(path) as bag:
        assert bag.problems == ["bag.db3: 2 messages are of no channel that it describes"]
        assert bag.image_topic().count == 2


def test_a_damaged_definition_costs_no_images(tmp_path: Path, caplog: Warnings) -> None:
    path = made.write(tmp_path / "bag", made.drive(2))
    connection = sqlite3.connect(database(path))
    text = "UPDATE message_definitions SET encoded_message_definition = ? WHERE topic_type LIKE '%ObjectDepthArray'"
    connection.execute(text, ("uint8 status\n!! 32 x\n",))
    connection.commit()
    connection.close()
    with Bag(path) as bag:
        assert bag.image_topic().count == 2
        (first, _) = bag.messages(*[t for t in bag.topics() if t.name == made.TRUTH])
        assert [o.name for o in bag.decode(first).objects] == ["chair", "table", "lamp"]
    (line,) = [r.getMessage() for r in caplog.records if "cannot be used" in r.getMessage()]
    assert "\n" not in line and "the installed ones are used" in line


@pytest.mark.parametrize("kind", ["mcap", "flat", "sqlite3", "metadata"])
def test_mutated_bags(tmp_path: Path, kind: str) -> None:
    """Bytes changed, removed or doubled anywhere: a line or messages, never another error and never a hang."""
    if kind in ("mcap", "flat"):
        path = write_mcap(tmp_path / "a.mcap", images()[:3], use_chunking=kind == "mcap", chunk_size=5000)
        file = path
    else:
        path = made.write(tmp_path / "bag", images()[:3])
        file = path / "metadata.yaml" if kind == "metadata" else database(path)
    whole, chance = file.read_bytes(), random.Random(kind)
    for _ in range(80):
        content = bytearray(whole)
        for _ in range(chance.randint(1, 8)):
            at = chance.choice([chance.randrange(len(content)), chance.randrange(min(600, len(content)))])
            what = chance.choice(["set", "set", "cut", "double"])
            size = chance.choice([1, 2, 8, 200])
            if what == "set":
                content[at : at + size] = chance.randbytes(min(size, len(content) - at))
            elif what == "cut":
                del content[at : at + size]
            else:
                content[at:at] = content[at : at + size]
            content = content or bytearray(1)
        file.write_bytes(content)
        try:
            with Bag(path) as bag:
                for m in bag.messages(*bag.topics()):
                    try:
                        image_to_rgb(bag.decode(m))
                    except BadImageError as error:
                        assert "\n" not in str(error)
        except ProxqaError as error:
            assert "\n" not in str(error)
