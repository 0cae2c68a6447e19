from . import saved_model as saved_model
from .saved_model import export as export
