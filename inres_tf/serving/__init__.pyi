from . import config as config
from . import predictions as predictions
from . import saved_model as saved_model
from .config import PredictConfig as PredictConfig
from .predictions import ImageClassifier as ImageClassifier
from .predictions import PredictionsInterrupted as PredictionsInterrupted
from .predictions import predict as predict
from .saved_model import export as export
