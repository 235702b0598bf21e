"""Small sets in the official layouts of CIFAR-10 and SVHN."""

import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from dissect.data.cifar10 import CLASSES


def pictures(n, n_classes=10, seed=0):
    """Images (n, 32, 32, 3) whose colour tells the class, in noise; and labels."""
    random = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    hue = np.random.default_rng(99).integers(40, 215, (n_classes, 1, 1, 3))
    noise = random.normal(0, 25, (n, 32, 32, 3))
    return (hue[labels] + noise).clip(0, 255).astype(np.uint8), labels


class Python2Pickle:
    """Writes what Python 2's cPickle wrote, protocol 2: its strings are bytes."""

    def __init__(self):
        self.out = bytearray(b"\x80\x02")

    def string(self, value):
        self.out += b"T" + struct.pack("<i", len(value)) + value

    def put(self, value):
        if isinstance(value, bytes):
            self.string(value)
        elif isinstance(value, bool):
            self.out += b"\x88" if value else b"\x89"
        elif isinstance(value, int):
            self.out += b"J" + struct.pack("<i", value)
        elif value is None:
            self.out += b"N"
        elif isinstance(value, list):
            self.out += b"]("
            for one in value:
                self.put(one)
            self.out += b"e"
        elif isinstance(value, tuple):
            self.out += b"("
            for one in value:
                self.put(one)
            self.out += b"t"
        elif isinstance(value, dict):
            self.out += b"}("
            for key, one in value.items():
                self.put(key)
                self.put(one)
            self.out += b"u"
        else:
            self.array(value)

    def array(self, value):
        self.out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        self.put((0,))
        self.string(b"b")
        self.out += b"\x87R(K\x01"
        self.put(value.shape)
        self.out += b"cnumpy\ndtype\n"
        self.string(b"u1")
        self.out += b"K\x00K\x01\x87R(K\x03"
        self.string(b"|")
        self.out += b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        self.string(value.tobytes())
        self.out += b"tb"

    @classmethod
    def dumps(cls, value):
        writer = cls()
        writer.put(value)
        return bytes(writer.out) + b"."


def write_batches(folder: Path, images, labels, test_images, test_labels, names=CLASSES):
    """The official python version, the training images over five batches."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = list(zip(np.array_split(images, 5), np.array_split(labels, 5), strict=True))
    files = {f"data_batch_{k + 1}": part for k, part in enumerate(parts)}
    files["test_batch"] = (test_images, test_labels)
    for name, (some, their) in files.items():
        rows = some.transpose(0, 3, 1, 2).reshape(len(some), -1)
        batch = {
            b"batch_label": b"some batch",
            b"labels": [int(one) for one in their],
            b"data": np.ascontiguousarray(rows),
            b"filenames": [b"x.png"] * len(some),
        }
        (folder / name).write_bytes(Python2Pickle.dumps(batch))
    meta = {
        b"num_cases_per_batch": 10000,
        b"label_names": [one.encode() for one in names],
        b"num_vis": 3072,
    }
    (folder / "batches.meta").write_bytes(Python2Pickle.dumps(meta))


def jpeg(image):
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=95)
    return stream.getvalue()


def write_jpegs(folder: Path, images, labels, test_images, test_labels, names=CLASSES):
    """One JPEG file an image, in a folder a class."""
    for split, some, their in (("train", images, labels), ("test", test_images, test_labels)):
        for number, (image, label) in enumerate(zip(some, their, strict=True)):
            file = folder / split / names[label] / f"{number // len(names):04d}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(jpeg(image))


def packed(folder: Path, archive: Path, mode="w:xz"):
    with tarfile.open(archive, mode) as tar:
        tar.add(folder, arcname=".")
    return archive


def write_svhn(folder: Path, images, labels, test_images, test_labels):
    """The official .mat files: X (32, 32, 3, N), y (N, 1) where 10 is the digit 0."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, some, their in (("train", images, labels), ("test", test_images, test_labels)):
        digits = np.where(their == 0, 10, their).astype(np.uint8)[:, None]
        savemat(
            folder / f"{split}_32x32.mat",
            {"X": some.transpose(1, 2, 3, 0), "y": digits},
            do_compression=True,
        )
