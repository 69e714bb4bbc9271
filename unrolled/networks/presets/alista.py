"""Learned ISTA with analytic weights."""

import torch
from torch import Tensor

from unrolled.networks.code_shrinkage import code_shrinkages
from unrolled.networks.conditioning import told
from unrolled.networks.dictionaries import analytic_weights
from unrolled.networks.differentiation import Differentiation, Implicit
from unrolled.networks.phases.sparse_coding import ALISTAPhase, AnalyticMatrix, as_real
from unrolled.networks.presets.dictionary_network import DictionaryNetwork
from unrolled.networks.sizes import check_sizes
from unrolled.networks.starts import Start
from unrolled.penalties import Penalty


class ALISTA(DictionaryNetwork):
    """z⁺ = S(z − γWᴴ(Dz − y)), sparse codes z of y = Dz: only steps γ and shrinkages S are learned, W is computed.

    Liu, Chen, Wang, Yin, ICLR 2019, equation 15: W minimises ‖WᴴD‖² (Frobenius) under wᵢᴴdᵢ = 1 for every column, see
    `analytic_weights`. It is a buffer, computed once in double precision by `ALISTA.of(operator, …)` or when training
    begins. The codes are the images of a `Dense` operator that has the dictionary D as its matrix.

    Parameters
    ----------
    rows, height, width : int
        of the dictionary, (rows, height·width), and of the codes (channel, height, width).
    phases : int
        iterations, each with a step and a shrinkage of its own.
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
    differentiation : Differentiation, optional
        `Unroll()` or `Recompute()`.
    start : Start, optional
        by default `ZeroStart()`, as in the paper.
    complex_images, noise_range
        see `UnrolledNetwork`; steps and thresholds follow the noise level.

    Examples
    --------
    >>> ALISTA(rows=250, height=20, width=25).parameter_count
    32
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
        differentiation: Differentiation | None = None,
        start: Start | None = None,
        complex_images: bool = False,
        noise_range: tuple[float, float] | None = None,
    ):
        check_sizes("ALISTA", rows=rows, height=height, width=width, phases=phases)
        if isinstance(differentiation, Implicit):
            raise ValueError(
                "ALISTA: differentiation must be Unroll() or Recompute(), for its phases have steps and thresholds of "
                f"their own and no fixed point, got {differentiation!r}"
            )
        ranges, entries = told("ALISTA", noise_range), height * width
        shrinkages = code_shrinkages(
            "ALISTA", phases, entries, penalty, learn_penalty, shrink_entries, threshold, trusted, most_trusted
        )
        analytic = AnalyticMatrix(rows, entries, complex_images)
        super().__init__(
            rows,
            height,
            width,
            [ALISTAPhase(analytic, shrink, ranges) for shrink in shrinkages],
            1,
            differentiation,
            start,
            complex_images,
            noise_range,
        )
        self.analytic = analytic

    @torch.no_grad()
    def take(self, dictionary: Tensor) -> None:
        self.analytic.matrix.copy_(as_real(analytic_weights(dictionary)))
