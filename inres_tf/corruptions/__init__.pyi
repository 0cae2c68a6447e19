from . import blur as blur
from . import cifar10_c as cifar10_c
from . import digital as digital
from . import edges as edges
from . import filters as filters
from . import generate as generate
from . import metrics as metrics
from . import noise as noise
from . import weather as weather
from .generate import (
    CORRUPTIONS as CORRUPTIONS,
)
from .generate import (
    EXTRA as EXTRA,
)
from .generate import (
    GROUPS as GROUPS,
)
from .generate import (
    SEVERITIES as SEVERITIES,
)
from .generate import (
    STANDARD as STANDARD,
)
from .generate import (
    corrupt as corrupt,
)
from .generate import (
    expand as expand,
)
from .metrics import effective as effective
from .metrics import mce as mce
from .metrics import mean_accuracy as mean_accuracy
