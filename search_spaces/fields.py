"""What all spec models share: the frozen base class and the constrained number types."""

from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from search_spaces.errors import nearest_name

# Strict: neither True nor "3" nor 3.0 passes for the whole number 3.
Count = Annotated[int, Field(strict=True, ge=1, le=10**9)]
CountOrZero = Annotated[int, Field(strict=True, ge=0, le=10**9)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]
Flag = Annotated[bool, Field(strict=True)]
Text = Annotated[str, Field(strict=True)]
Positive = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
PositiveOrZero = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
LearningRate = Annotated[float, Field(strict=True, gt=0, le=1, allow_inf_nan=False)]
Fraction = Annotated[float, Field(strict=True, gt=0, lt=1, allow_inf_nan=False)]


class SpecModel(BaseModel):
    """A frozen value object which answers an unknown key with the nearest valid one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Name `Range[...]` plainly "Range": the parameter is a number with its constraints."""
        return cls.__name__

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, data: Any) -> Any:
        if isinstance(data, dict):
            for key in data:
                if key not in cls.model_fields:
                    raise unknown_key(key, cls.model_fields)
        return data


def unknown_key(key: Any, valid: Iterable[str]) -> PydanticCustomError:
    """The validation error for a key that a section of the spec does not have."""
    return PydanticCustomError(
        "unknown_key", "unknown key{hint}", {"key": key, "hint": nearest_name(str(key), valid)}
    )


def wrong_field(path: str, message: str) -> PydanticCustomError:
    """The validation error for a field that a validator of a section above it finds wrong."""
    # In the context, since pydantic fills in what stands in braces.
    return PydanticCustomError("wrong_field", "{message}", {"path": path, "message": message})
