from . import blocks as blocks
from . import comparison as comparison
from . import compiled as compiled
from . import config as config
from . import figures as figures
from . import gradients as gradients
from . import spectral as spectral
from . import suite as suite
from ._calibration import (
    Calibration as Calibration,
)
from ._calibration import (
    CorruptedCalibration as CorruptedCalibration,
)
from ._calibration import (
    calibration as calibration,
)
from ._calibration import (
    corrupted_calibration as corrupted_calibration,
)
from ._continuous import Continuous as Continuous
from ._continuous import continuous as continuous
from ._landscape import Landscape as Landscape
from ._landscape import landscape as landscape
from ._lipschitz import Lipschitz as Lipschitz
from ._lipschitz import lipschitz as lipschitz
from ._lyapunov import Lyapunov as Lyapunov
from ._lyapunov import growth as growth
from ._lyapunov import lyapunov as lyapunov
from .blocks import Block as Block
from .blocks import Chain as Chain
from .blocks import damped_at as damped_at
from .config import AnalysisConfig as AnalysisConfig
from .gradients import GradientNorms as GradientNorms
from .gradients import gradient_norms as gradient_norms
from .spectral import largest_singular_value as largest_singular_value
from .suite import ANALYSES as ANALYSES
from .suite import analyze as analyze
from .suite import table as table
