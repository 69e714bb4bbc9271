"""Learned ISTA."""

from torch import Tensor

from unrolled.networks.code_shrinkage import code_shrinkages
from unrolled.networks.conditioning import told
from unrolled.networks.differentiation import Differentiation
from unrolled.networks.phases.sparse_coding import LISTAPhase
from unrolled.networks.presets.dictionary_network import DictionaryNetwork
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.penalties import Penalty


class LISTA(DictionaryNetwork):
    """z⁺ = S(W₁y + W₂z), sparse codes z of y = Dz: ISTA with learned matrices W₁ and W₂ and a learned shrinkage S.

    Gregor, LeCun, ICML 2010, algorithm 3. Untrained it is ISTA, W₁ = Dᴴ/L and W₂ = 1 − DᴴD/L with L = ‖D‖²: so
    `LISTA.of(operator, …)` makes it, and training does. The codes are the images of a `Dense` operator that has the
    dictionary as its matrix; weights are for that one alone.

    Parameters
    ----------
    rows, height, width : int
        of the dictionary, (rows, height·width), and of the codes (channel, height, width).
    phases : int
        iterations.
    penalty : Penalty, list of Penalty, or None
        whose proximal map is S; of a list, a learned mixture of their maps. Default: L1, as in the paper.
    learn_penalty : bool
        learn the parameters of the penalties too, in every phase.
    shrink_entries : bool
        a learned threshold for every entry of the codes instead of one for all; also parameters and weights of a
        mixture, if learned.
    threshold : float > 0
        where the thresholds start, in units of the codes.
    trusted, most_trusted : float in [0, 1]
        support selection: in phase k the largest entries, so large a share of all as min(k·trusted, most_trusted), are
        not shrunk where S does not make them 0 (Chen, Liu, Wang, Yin, NeurIPS 2018). By default all are shrunk.
    shared : bool
        whether all phases have one W₁, W₂ and S, as in the paper.
    differentiation : Differentiation, optional
        `Unroll()` (the default), `Recompute(every)`, or, with shared phases, `Implicit()`.
    start : Start, optional
        by default `ZeroStart()`, as in the paper.
    complex_images, noise_range
        see `UnrolledNetwork`; thresholds follow the noise level.

    Examples
    --------
    >>> LISTA(rows=250, height=20, width=25).parameter_count
    375001
    """

    def __init__(
        self,
        rows: int,
        height: int,
        width: int,
        phases: int = 16,
        penalty: Penalty | list[Penalty] | None = None,
        learn_penalty: bool = False,
        shrink_entries: bool = False,
        threshold: float = 0.1,
        trusted: float = 0.0,
        most_trusted: float = 0.13,
        shared: bool = True,
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
    ):
        check_sizes("LISTA", rows=rows, height=height, width=width, phases=phases)
        if shared and trusted:
            raise ValueError(f"LISTA: trusted must be 0 with shared phases, which all shrink alike, got {trusted!r}")
        ranges, entries = told("LISTA", noise_range), height * width
        shrinkages = code_shrinkages(
            "LISTA", 1 if shared else phases, entries, penalty, learn_penalty, shrink_entries, threshold, trusted,
            most_trusted,
        )  # fmt: skip
        super().__init__(
            rows,
            height,
            width,
            [LISTAPhase(rows, entries, shrink, complex_images, ranges) for shrink in shrinkages],
            phases if shared else 1,
            differentiation,
            start,
            complex_images,
            noise_range,
        )

    def take(self, dictionary: Tensor) -> None:
        for phase in self.phases:
            assert isinstance(phase, LISTAPhase)
            phase.take(dictionary)
