"""What turns images into vectors between which distances mean something.

Each is an `Extractor`: a network of a known file, a model of the transformers library, or a module
of the user's. Metrics compare such features, and labels can spread along them.
"""

from fewlabel.extractors.extractor import Extractor, NetworkExtractor, in_parts, module_extractor
from fewlabel.extractors.feature_cache import dataset_features
from fewlabel.extractors.inception import inception_extractor
from fewlabel.extractors.named import NAMED, is_named, named_extractor
from fewlabel.extractors.pretrained import transformers_extractor

__all__ = [
    "NAMED",
    "Extractor",
    "NetworkExtractor",
    "dataset_features",
    "in_parts",
    "inception_extractor",
    "is_named",
    "module_extractor",
    "named_extractor",
    "transformers_extractor",
]
