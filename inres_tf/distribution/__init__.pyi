from . import classifier as classifier
from . import config as config
from . import per_example as per_example
from . import strategy as strategy
from . import workers as workers
from .classifier import Classifier as Classifier
from .config import (
    StrategyConfig as StrategyConfig,
)
from .config import (
    WorkerInfo as WorkerInfo,
)
from .config import (
    worker_info as worker_info,
)
from .strategy import make_strategy as make_strategy
