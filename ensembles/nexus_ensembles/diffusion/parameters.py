"""The parameters of generative_fill beside the images, checked."""

from dataclasses import dataclass

from nexus_ensembles.diffusion.schedulers import Scheduler, make_scheduler
from nexus_ensembles.errors import BadInput

# The models read 77 tokens. This is 13 bytes for each: room for every language, but not for prompts that occupy the
# content filter and the tokenizer, which block all requests, for more than a few milliseconds.
MAX_PROMPT_BYTES = 1024
MAX_STEPS = 150
MAX_GUIDANCE_SCALE = 30.0
MAX_SEED = 2**63 - 1


@dataclass(frozen=True)
class FillParameters:
    """The parameters of `GenerativeFill.run`, within their limits. Raises BadInput for one that is not."""

    prompt: str
    negative_prompt: str
    steps: int
    guidance_scale: float
    strength: float
    seed: int
    scheduler: str
    preview_every: int

    def __post_init__(self) -> None:
        for what, text in (("prompt", self.prompt), ("negative prompt", self.negative_prompt)):
            if len(text.encode()) > MAX_PROMPT_BYTES:
                raise BadInput(
                    f"the {what} has {len(text.encode())} bytes; at most {MAX_PROMPT_BYTES} are accepted."
                )
        if not 1 <= self.steps <= MAX_STEPS:
            raise BadInput(f"steps is {self.steps}; it must lie between 1 and {MAX_STEPS}.")
        # written so that a NaN is refused too
        if not 1 <= self.guidance_scale <= MAX_GUIDANCE_SCALE:
            raise BadInput(
                f"guidance_scale is {self.guidance_scale:g}; it must lie between 1 and {MAX_GUIDANCE_SCALE:g}."
            )
        if not 0 < self.strength <= 1:
            raise BadInput(f"strength is {self.strength:g}; it must be more than 0 and at most 1.")
        if not 0 <= self.seed <= MAX_SEED:
            raise BadInput(f"seed is {self.seed}; it must lie between 0 and {MAX_SEED}.")
        if self.preview_every < 0:
            raise BadInput(f"preview_every is {self.preview_every}; it must be 0 (no previews) or more.")

    def make_scheduler(self) -> Scheduler:
        """Make the scheduler. Raises BadInput for an unknown one, or for a strength that leaves no step to take."""
        # A strength that came as FP32 is rounded to what the caller wrote: 0.7 of 10 steps are 7, not 6.99999988.
        return make_scheduler(self.scheduler, self.steps, round(self.strength, 6))

    @property
    def prompts(self) -> list[str]:
        """Prompts of one UNet call: [negative, positive] with classifier-free guidance, else [positive]."""
        return [self.negative_prompt, self.prompt] if self.guidance_scale > 1 else [self.prompt]
