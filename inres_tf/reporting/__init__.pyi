from . import comparison as comparison
from . import html as html
from . import leaderboard as leaderboard
from . import measurements as measurements
from . import plots as plots
from . import statistics as statistics
from . import tables as tables
from . import verdicts as verdicts
from .comparison import Comparison as Comparison
from .comparison import compare as compare
from .measurements import (
    EvaluatedRun as EvaluatedRun,
)
from .measurements import (
    read_measurements as read_measurements,
)
