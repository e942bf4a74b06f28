"""The published IDX datasets, MNIST, Fashion-MNIST and KMNIST: names, mirrors and digests."""

from dataclasses import dataclass
from typing import Literal

from search_spaces.dataset import IdxName

Part = Literal["train_images", "test_images", "train_labels", "test_labels"]

FILE_NAMES: dict[Part, str] = {
    "train_images": "train-images-idx3-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}


@dataclass(frozen=True)
class IdxCollection:
    """One published dataset of four IDX files.

    Attributes:
        name: Its name in a spec, and of its folder.
        description: One line for people.
        mirrors: Base URLs of the `.gz` files, tried in this order.
        archives: SHA-256 of each `.gz` file as published.
        contents: SHA-256 of each uncompressed file; empty where none is published. With it,
            uncompressed and recompressed files are accepted as well.
        train_images: Number of training images.
        test_images: Number of test images.
    """

    name: str
    description: str
    mirrors: tuple[str, ...]
    archives: dict[Part, str]
    contents: dict[Part, str]
    train_images: int = 60_000
    test_images: int = 10_000


# Digests of the `.gz` files: TensorFlow Datasets, tensorflow_datasets/url_checksums/mnist.txt,
# fashion_mnist.txt and kmnist.txt; the same in torchvision's prototype datasets
# (torchvision/prototype/datasets/_builtin/mnist.py). Digests of the uncompressed files: those of
# MNIST are those of the published files, computed anew and found in many repositories; those of
# Fashion-MNIST are stated by several repositories that checked their archives first, and the one
# of the test images is also the Git LFS object id of extracted copies. For KMNIST's uncompressed
# images the few statements to be found contradict each other, so none is relied on.
COLLECTIONS: dict[IdxName, IdxCollection] = {
    "mnist": IdxCollection(
        name="mnist",
        description="handwritten digits, 28x28 (LeCun, Cortes, Burges)",
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        archives={
            "train_images": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "test_images": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "train_labels": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "test_labels": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        contents={
            "train_images": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "test_images": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "train_labels": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "test_labels": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": IdxCollection(
        name="fashion_mnist",
        description="articles of clothing, 28x28 (Xiao, Rasul, Vollgraf 2017)",
        mirrors=(
            "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        archives={
            "train_images": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "test_images": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "train_labels": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "test_labels": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        contents={
            "train_images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "test_images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "train_labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "test_labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        },
    ),
    "kmnist": IdxCollection(
        name="kmnist",
        description="cursive Japanese characters, 28x28 (Clanuwat et al. 2018)",
        mirrors=(
            "https://codh.rois.ac.jp/kmnist/dataset/kmnist/",
            "http://codh.rois.ac.jp/kmnist/dataset/kmnist/",
        ),
        archives={
            "train_images": "51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4",
            "test_images": "edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5",
            "train_labels": "e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17",
            "test_labels": "20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c",
        },
        contents={},
    ),
}
