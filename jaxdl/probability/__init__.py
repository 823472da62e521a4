"""Probability, information theory and statistics (D2L 2.6 and 22.6 to 22.11; perceptron and PCA of the systems course).

Distributions and what they have in common; entropy, divergence and mutual information of tables; moments, Bayes' rule,
maximum likelihood, confidence intervals, tests of means; and the models that need no more than that: naive Bayes,
principal components, the perceptron. Tables that are no distributions are errors, and `0 log 0` is 0.
"""

from jaxdl.probability.bayes_rule import evidence, posterior
from jaxdl.probability.distributions import (
    Bernoulli,
    Binomial,
    DiscreteUniform,
    Distribution,
    Normal,
    Poisson,
    Uniform,
)
from jaxdl.probability.estimation import EstimatorError, confidence_interval, estimator_error
from jaxdl.probability.exponential_family import BERNOULLI, NORMAL, POISSON, ExponentialFamily
from jaxdl.probability.hypothesis_tests import (
    TTest,
    t_test,
    two_sample_t_test,
    z_test_power,
    z_test_sample_size,
)
from jaxdl.probability.information import (
    conditional_entropy,
    cross_entropy,
    entropy,
    joint_entropy,
    kl_divergence,
    mutual_information,
    self_information,
)
from jaxdl.probability.maximum_likelihood import (
    fit_bernoulli,
    fit_binomial,
    fit_normal,
    fit_poisson,
    fit_uniform,
    maximize_likelihood,
)
from jaxdl.probability.moments import chebyshev_bound, correlation, covariance, expectation, variance
from jaxdl.probability.naive_bayes import BernoulliNaiveBayes
from jaxdl.probability.pca import PCA
from jaxdl.probability.perceptron import Perceptron, mistake_bound

__all__ = [
    "BERNOULLI",
    "NORMAL",
    "PCA",
    "POISSON",
    "Bernoulli",
    "BernoulliNaiveBayes",
    "Binomial",
    "DiscreteUniform",
    "Distribution",
    "EstimatorError",
    "ExponentialFamily",
    "Normal",
    "Perceptron",
    "Poisson",
    "TTest",
    "Uniform",
    "chebyshev_bound",
    "conditional_entropy",
    "confidence_interval",
    "correlation",
    "covariance",
    "cross_entropy",
    "entropy",
    "estimator_error",
    "evidence",
    "expectation",
    "fit_bernoulli",
    "fit_binomial",
    "fit_normal",
    "fit_poisson",
    "fit_uniform",
    "joint_entropy",
    "kl_divergence",
    "maximize_likelihood",
    "mistake_bound",
    "mutual_information",
    "posterior",
    "self_information",
    "t_test",
    "two_sample_t_test",
    "variance",
    "z_test_power",
    "z_test_sample_size",
]
