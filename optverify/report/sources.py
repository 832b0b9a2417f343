"""Where the methods, their safe bounds and the solvers are published."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SOURCES: Mapping[str, tuple[str, ...]] = {
    "interval": ("moore1966interval", "gowal2018effectiveness"),
    "crown": ("zhang2018efficient",),
    "alpha-crown": ("xu2021fast",),
    "triangle": ("ehlers2017formal",),
    "triangle+tightened": ("salman2019convex",),
    "lifted": ("raghunathan2018semidefinite",),
    "lifted+cuts": ("batten2021efficient", "lan2022tight"),
    "bigm": ("tjeng2019evaluating",),
    "exact": ("bunel2020branch", "wang2021beta"),
    "safe bounds": ("neumaier2004safe", "jansson2007rigorous"),
    "highs": ("huangfu2018parallelizing",),
    "clarabel": ("goulart2024clarabel",),
    "scs": ("odonoghue2016conic",),
}
"""Keys of the entries for each method and solver."""

ENTRIES = r"""
@book{moore1966interval,
  author = {Ramon E. Moore}, title = {Interval Analysis}, publisher = {Prentice-Hall}, year = {1966}}
@misc{gowal2018effectiveness,
  author = {Sven Gowal and Krishnamurthy Dvijotham and Robert Stanforth and Rudy Bunel and Chongli Qin and
    Jonathan Uesato and Relja Arandjelovic and Timothy Mann and Pushmeet Kohli},
  title = {On the Effectiveness of Interval Bound Propagation for Training Verifiably Robust Models},
  howpublished = {arXiv:1810.12715}, eprint = {1810.12715}, archiveprefix = {arXiv}, year = {2018}}
@inproceedings{zhang2018efficient,
  author = {Huan Zhang and Tsui-Wei Weng and Pin-Yu Chen and Cho-Jui Hsieh and Luca Daniel},
  title = {Efficient Neural Network Robustness Certification with General Activation Functions},
  booktitle = {Advances in Neural Information Processing Systems 31}, year = {2018}}
@inproceedings{xu2021fast,
  author = {Kaidi Xu and Huan Zhang and Shiqi Wang and Yihan Wang and Suman Jana and Xue Lin and Cho-Jui Hsieh},
  title = {Fast and Complete: Enabling Complete Neural Network Verification with Rapid and Massively Parallel Incomplete
    Verifiers},
  booktitle = {International Conference on Learning Representations}, year = {2021}}
@inproceedings{ehlers2017formal,
  author = {R{\"u}diger Ehlers},
  title = {Formal Verification of Piece-Wise Linear Feed-Forward Neural Networks},
  booktitle = {Automated Technology for Verification and Analysis}, year = {2017}}
@inproceedings{salman2019convex,
  author = {Hadi Salman and Greg Yang and Huan Zhang and Cho-Jui Hsieh and Pengchuan Zhang},
  title = {A Convex Relaxation Barrier to Tight Robustness Verification of Neural Networks},
  booktitle = {Advances in Neural Information Processing Systems 32}, year = {2019}}
@inproceedings{raghunathan2018semidefinite,
  author = {Aditi Raghunathan and Jacob Steinhardt and Percy Liang},
  title = {Semidefinite Relaxations for Certifying Robustness to Adversarial Examples},
  booktitle = {Advances in Neural Information Processing Systems 31}, year = {2018}}
@inproceedings{batten2021efficient,
  author = {Ben Batten and Panagiotis Kouvaros and Alessio Lomuscio and Yang Zheng},
  title = {Efficient Neural Network Verification via Layer-based Semidefinite Relaxations and Linear Cuts},
  booktitle = {International Joint Conference on Artificial Intelligence}, year = {2021}}
@inproceedings{lan2022tight,
  author = {Jianglin Lan and Yang Zheng and Alessio Lomuscio},
  title = {Tight Neural Network Verification via Semidefinite Relaxations and Linear Reformulations},
  booktitle = {AAAI Conference on Artificial Intelligence}, year = {2022}}
@inproceedings{tjeng2019evaluating,
  author = {Vincent Tjeng and Kai Y. Xiao and Russ Tedrake},
  title = {Evaluating Robustness of Neural Networks with Mixed Integer Programming},
  booktitle = {International Conference on Learning Representations}, year = {2019}}
@article{bunel2020branch,
  author = {Rudy Bunel and Jingyue Lu and Ilker Turkaslan and Philip H. S. Torr and Pushmeet Kohli and M. Pawan Kumar},
  title = {Branch and Bound for Piecewise Linear Neural Network Verification},
  journal = {Journal of Machine Learning Research}, volume = {21}, number = {42}, pages = {1--39}, year = {2020}}
@inproceedings{wang2021beta,
  author = {Shiqi Wang and Huan Zhang and Kaidi Xu and Xue Lin and Suman Jana and Cho-Jui Hsieh and J. Zico Kolter},
  title = {Beta-{CROWN}: Efficient Bound Propagation with Per-neuron Split Constraints for Neural Network Robustness
    Verification},
  booktitle = {Advances in Neural Information Processing Systems 34}, year = {2021}}
@article{neumaier2004safe,
  author = {Arnold Neumaier and Oleg Shcherbina},
  title = {Safe Bounds in Linear and Mixed-Integer Linear Programming},
  journal = {Mathematical Programming}, volume = {99}, number = {2}, pages = {283--296}, year = {2004}}
@article{jansson2007rigorous,
  author = {Christian Jansson and Denis Chaykin and Christian Keil},
  title = {Rigorous Error Bounds for the Optimal Value in Semidefinite Programming},
  journal = {SIAM Journal on Numerical Analysis}, volume = {46}, number = {1}, pages = {180--200}, year = {2007}}
@article{huangfu2018parallelizing,
  author = {Qi Huangfu and J. A. Julian Hall},
  title = {Parallelizing the Dual Revised Simplex Method},
  journal = {Mathematical Programming Computation}, volume = {10}, number = {1}, pages = {119--142}, year = {2018}}
@misc{goulart2024clarabel,
  author = {Paul J. Goulart and Yuwen Chen},
  title = {Clarabel: An Interior-Point Solver for Conic Programs with Quadratic Objectives},
  howpublished = {arXiv:2405.12762}, eprint = {2405.12762}, archiveprefix = {arXiv}, year = {2024}}
@article{odonoghue2016conic,
  author = {Brendan O'Donoghue and Eric Chu and Neal Parikh and Stephen Boyd},
  title = {Conic Optimization via Operator Splitting and Homogeneous Self-Dual Embedding},
  journal = {Journal of Optimization Theory and Applications}, volume = {169}, number = {3}, pages = {1042--1068},
  year = {2016}}
"""

_BY_KEY = {entry.split("{", 1)[1].split(",", 1)[0]: f"@{entry.strip()}" for entry in ENTRIES.split("\n@")[1:]}


def bibtex(names: Iterable[str]) -> str:
    """Return the entries of the named methods and solvers, and of safe bounds; unknown names have none."""
    keys = dict.fromkeys(key for name in [*names, "safe bounds"] for key in SOURCES.get(name, ()))
    return "\n".join(_BY_KEY[key] for key in keys)
