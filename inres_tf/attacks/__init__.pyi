from . import adam as adam
from . import apgd as apgd
from . import cleverhans_attacks as cleverhans_attacks
from . import counter_rng as counter_rng
from . import cw as cw
from . import engine as engine
from . import geometry as geometry
from . import losses as losses
from . import norms as norms
from . import registry as registry
from . import versions as versions
from ._autoattack import autoattack as autoattack
from ._fab import fab as fab
from ._pgd import ascend as ascend
from ._pgd import fgsm as fgsm
from ._pgd import ifgsm as ifgsm
from ._pgd import mim as mim
from ._pgd import pgd as pgd
from ._spsa import spsa as spsa
from ._square import square as square
from .apgd import apgd_ce as apgd_ce
from .apgd import apgd_dlr as apgd_dlr
from .cleverhans_attacks import (
    cleverhans_fgsm as cleverhans_fgsm,
)
from .cleverhans_attacks import (
    cleverhans_mim as cleverhans_mim,
)
from .cleverhans_attacks import (
    cleverhans_pgd as cleverhans_pgd,
)
from .cw import cw_l2 as cw_l2
from .engine import (
    AttackError as AttackError,
)
from .engine import (
    NonFiniteError as NonFiniteError,
)
from .engine import (
    check as check,
)
from .registry import ATTACKS as ATTACKS
from .registry import Attack as Attack
