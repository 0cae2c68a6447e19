from . import callbacks as callbacks
from . import checkpoints as checkpoints
from . import config as config
from . import loop as loop
from . import metrics_log as metrics_log
from . import objectives as objectives
from . import plots as plots
from . import rematerialization as rematerialization
from . import run as run
from . import run_folder as run_folder
from . import schedules as schedules
from . import signals as signals
from . import step as step
from . import weight_averaging as weight_averaging
from .config import TrainConfig as TrainConfig
from .run import (
    TrainResult as TrainResult,
)
from .run import (
    final_metrics as final_metrics,
)
from .run import (
    stopped as stopped,
)
from .run import (
    train as train,
)
