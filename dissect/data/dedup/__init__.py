"""De-duplication by hashing (Radford et al. 2015, section 4.1.1)."""

from dissect.data.dedup.autoencoder import CODE_BITS, SIDE, Autoencoder
from dissect.data.dedup.groups import CERTAIN, first_alike, first_of_each, groups_of
from dissect.data.dedup.hashing import Hasher, fit_hasher, hash_images
from dissect.data.dedup.keep import SubsetSource, read_keep, write_keep

__all__ = [
    "CERTAIN",
    "CODE_BITS",
    "SIDE",
    "Autoencoder",
    "Hasher",
    "SubsetSource",
    "first_alike",
    "first_of_each",
    "fit_hasher",
    "groups_of",
    "hash_images",
    "read_keep",
    "write_keep",
]
