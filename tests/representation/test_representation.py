from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.labelled import pictures
from sklearn.svm import LinearSVC
from torch import nn

from dissect._utils.errors import DissectError
from dissect._utils.images import to_tensor
from dissect.data import LabelledSource
from dissect.models import Discriminator
from dissect.representation import (
    LowDataProtocol,
    Scaling,
    calibrated,
    discriminator_features,
    evaluate_all_labels,
    evaluate_few_labels,
    feature_layers,
    fit_patches,
    fit_svm,
    kmeans_features,
    pooled_features,
    search_classifier,
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("DISSECT_CACHE", str(folder))
    return folder


def labelled_pictures(n, n_classes=10, seed=0):
    images, labels = pictures(n, n_classes, seed)
    names = tuple(map(str, range(n_classes)))
    return LabelledSource("made", images, labels.astype(np.int64), names)


def clusters(n, width, n_classes, seed=0, spread=1.0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, n_classes, n)
    centres = np.random.default_rng(7).normal(size=(n_classes, width))
    scales = 10 ** np.random.default_rng(8).uniform(-1, 1, width)
    features = (centres[labels] + random.normal(0, spread, (n, width))) * scales + 3
    return features.astype(np.float32), labels


# Features


def test_features_are_every_convolution_after_its_leaky_relu_pooled_to_4x4():
    model = Discriminator(width=4, image_size=32, kernel=4).eval()
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    assert feature_layers(model) == ("layer16x16", "layer8x8", "layer4x4")
    with torch.no_grad():
        a = model.layer16x16(images)
        b = model.layer8x8(a)
        c = model.layer4x4(b)
        wanted = torch.cat(
            [
                nn.functional.max_pool2d(a, 4).flatten(1),
                nn.functional.max_pool2d(b, 2).flatten(1),
                c.flatten(1),
            ],
            1,
        )
    found = pooled_features(model, images, feature_layers(model))
    assert found.shape == (3, 16 * (4 + 8 + 16))
    assert torch.equal(found, wanted)


def test_the_papers_width_has_28672_features():
    with torch.device("meta"):
        model = Discriminator(width=256, image_size=32)
    widths = [model.get_submodule(name).conv.out_channels for name in feature_layers(model)]
    assert 16 * sum(widths) == 28_672


def test_the_file_holds_the_features_and_is_made_once(cache):
    model = Discriminator(width=2, image_size=32, kernel=4).eval()
    images = labelled_pictures(130)
    features = discriminator_features(model, images)
    assert isinstance(features, np.memmap)
    assert (features.dtype, features.shape) == (np.float32, (130, 16 * 14))
    direct = pooled_features(model, to_tensor(images.images(range(130))), feature_layers(model))
    assert np.allclose(features, direct.numpy(), atol=1e-5)
    [file] = (cache / "features").iterdir()
    before = file.stat().st_mtime_ns
    assert np.array_equal(discriminator_features(model, images), features)
    assert file.stat().st_mtime_ns == before


def test_another_model_other_layers_and_other_images_have_files_of_their_own(cache):
    model = Discriminator(width=2, image_size=32, kernel=4).eval()
    images = labelled_pictures(20)
    discriminator_features(model, images)
    discriminator_features(model, images, layers=("layer8x8",))
    discriminator_features(model, labelled_pictures(20, seed=5))
    with torch.no_grad():
        model.layer4x4.conv.weight[0, 0, 0, 0] += 1
    discriminator_features(model, images)
    model.layer8x8.activation.negative_slope = 0.1  # not among the weights
    discriminator_features(model, images)
    assert len(list((cache / "features").iterdir())) == 5


def test_mirrored_features_are_the_same_of_an_image_and_its_mirror_image(cache):
    model = Discriminator(width=2, image_size=32, kernel=4).eval()
    images = labelled_pictures(20)
    flipped = replace(images, pixels=np.ascontiguousarray(images.pixels[:, :, ::-1]))
    plain, other = (np.array(discriminator_features(model, one)) for one in (images, flipped))
    mirrored = discriminator_features(model, images, mirror=True)
    assert not np.allclose(plain, other, atol=1e-3)
    assert np.allclose(mirrored, (plain + other) / 2, atol=1e-6)
    assert np.allclose(mirrored, discriminator_features(model, flipped, mirror=True), atol=1e-6)
    # The plain ones are found again, and not taken for these.
    assert np.array_equal(discriminator_features(model, images), plain)


def test_a_damaged_file_is_made_again(cache):
    model = Discriminator(width=2, image_size=32, kernel=4).eval()
    images = labelled_pictures(20)
    good = np.array(discriminator_features(model, images))
    [file] = (cache / "features").iterdir()
    content = bytearray(file.read_bytes())
    content[5000] ^= 255
    file.write_bytes(content)
    assert np.array_equal(discriminator_features(model, images), good)


def test_what_cannot_be_features_is_told():
    other = nn.Sequential(nn.Conv2d(3, 4, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(4, 2, 16))
    images = labelled_pictures(10)
    with pytest.raises(DissectError, match="name those after the non-linearity"):
        discriminator_features(other, images)
    assert discriminator_features(other, images, layers=("1",)).shape == (10, 64)
    large = Discriminator(width=2, image_size=64, kernel=4).eval()
    with pytest.raises(DissectError, match="takes images of 64 pixels and made gives 32"):
        discriminator_features(large, images)
    tiny = nn.Sequential(nn.Conv2d(3, 4, 16, 16), nn.ReLU()).eval()
    with pytest.raises(DissectError, match="a grid of 4x4 or more"):
        discriminator_features(tiny, images, layers=("1",))


def test_calibration_measures_the_statistics_and_leaves_the_model_alone():
    model = Discriminator(width=2, image_size=32, kernel=4).eval()
    images = labelled_pictures(100)
    copy = calibrated(model, images)
    x = to_tensor(images.images(range(100)))
    with torch.no_grad():
        seen = copy.layer8x8.conv(copy.layer16x16(x))
    assert torch.allclose(copy.layer8x8.norm.running_mean, seen.mean((0, 2, 3)), atol=1e-4)
    assert torch.equal(model.layer8x8.norm.running_mean, torch.zeros(4))
    assert not copy.training


# The classifier


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("standardize", [False, True])
@pytest.mark.parametrize("c", [1e-4, 1e-2, 1.0])
def test_lbfgs_finds_the_minimum_that_linear_svc_finds(n_classes, standardize, c):
    features, labels = clusters(2_300, 20, n_classes)
    scaling = Scaling.from_features(features) if standardize else None
    ours = fit_svm(features, labels, c, n_classes, scaling=scaling, solver="lbfgs", tolerance=1e-6)
    assert ours.converged
    x = features.astype(np.float64)
    if standardize:
        x = (x - x.mean(0)) / x.std(0)
    theirs = LinearSVC(C=c, dual=False, tol=1e-8, max_iter=100_000).fit(x, labels)
    weights, bias = ours.weights.astype(np.float64), ours.bias.astype(np.float64)
    if standardize:
        bias = bias + weights @ features.mean(0, dtype=np.float64)
        weights = weights * features.std(0, dtype=np.float64)
    if n_classes == 2:
        weights, bias = weights[1:], bias[1:]
    scores, wanted = x @ weights.T + bias, x @ theirs.coef_.T + theirs.intercept_
    assert np.abs(scores - wanted).max() < 5e-3 * np.abs(wanted).max()
    for k in range(len(weights)):
        signs = np.where(labels == (1 if n_classes == 2 else k), 1, -1)

        def loss(w, b, z, signs=signs):
            return (w @ w + b * b) / 2 + c * np.square(np.maximum(0, 1 - signs * z)).sum()

        best = loss(theirs.coef_[k], theirs.intercept_[k], wanted[:, k])
        assert loss(weights[k], bias[k], scores[:, k]) == pytest.approx(best, rel=1e-5)


def test_liblinear_and_lbfgs_agree_and_auto_takes_liblinear_for_few():
    features, labels = clusters(300, 10, 3)
    scaling = Scaling.from_features(features)
    first = fit_svm(features, labels, 0.01, 3, scaling=scaling)
    second = fit_svm(features, labels, 0.01, 3, scaling=scaling, solver="lbfgs")
    assert (first.solver, second.solver) == ("liblinear", "lbfgs")
    assert np.abs(first.scores(features) - second.scores(features)).max() < 5e-3


def test_more_features_than_images_and_a_start_from_another_c_give_the_same():
    features, labels = clusters(120, 400, 4, spread=3.0)
    near = fit_svm(features, labels, 1e-4, 4, solver="lbfgs", tolerance=1e-6)
    cold = fit_svm(features, labels, 1e-3, 4, solver="lbfgs", tolerance=1e-6)
    warm = fit_svm(features, labels, 1e-3, 4, solver="lbfgs", start=near, tolerance=1e-6)
    assert np.abs(cold.scores(features) - warm.scores(features)).max() < 1e-2


def test_scaling_gives_mean_0_and_std_1_and_drops_constants():
    features, _ = clusters(1_500, 6, 2)
    features[:, 2] = 123.456
    scaling = Scaling.from_features(features)
    scaled = (features - scaling.mean) / scaling.std
    kept = [0, 1, 3, 4, 5]
    assert np.allclose(scaled.mean(0), 0, atol=1e-4)
    assert np.allclose(scaled[:, kept].std(0), 1, atol=1e-4)
    assert np.all(scaled[:, 2] == 0)


def test_a_class_without_images_is_told():
    features, labels = clusters(50, 4, 2)
    with pytest.raises(DissectError, match="class 2 of 3 has no image"):
        fit_svm(features, labels, 1.0, 3)
    with pytest.raises(DissectError, match="C must be above 0"):
        fit_svm(features, labels, 0.0, 2)


# The protocols


def test_c_is_chosen_on_the_last_fifth_and_the_test_set_is_looked_at_once():
    features, labels = clusters(1_000, 30, 4, spread=4.0)
    test, test_labels = clusters(400, 30, 4, seed=1, spread=4.0)
    result = evaluate_all_labels(features, labels, test, test_labels, 4, cs=(1e-5, 1e-3, 1e-1))
    first = fit_svm(features[:800], labels[:800], 1e-3, 4)
    assert result.validation[1e-3] == pytest.approx(
        first.accuracy(features[800:], labels[800:]), abs=5e-3
    )
    assert result.c == max(result.validation, key=result.validation.get)
    final = fit_svm(features, labels, result.c, 4)
    assert result.accuracy == pytest.approx(final.accuracy(test, test_labels), abs=5e-3)
    assert result.interval[0] < result.accuracy < result.interval[1]


def test_draws_are_balanced_fresh_and_never_of_the_validation_images():
    labels = np.random.default_rng(0).integers(0, 10, 900)
    protocol = LowDataProtocol(n_validation=200, per_class=5)
    validation, pool = protocol.split(labels, 10)
    assert (len(validation), len(pool), len({*validation, *pool})) == (200, 700, 900)
    first, second = (protocol.draw(labels, pool, 10, number) for number in (0, 1))
    assert np.array_equal(np.bincount(labels[first]), [5] * 10)
    assert not set(first) & set(validation)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, protocol.draw(labels, pool, 10, 0))


def test_few_labels_report_the_mean_of_fresh_draws():
    features, labels = clusters(600, 12, 3, spread=2.0)
    test, test_labels = clusters(300, 12, 3, seed=1, spread=2.0)
    protocol = LowDataProtocol(n_validation=150, per_class=10, validation_draws=2, test_draws=4)
    result = evaluate_few_labels(features, labels, test, test_labels, 3, protocol, cs=(1e-4, 1e-2))
    _, pool = protocol.split(labels, 3)
    reached = []
    for number in range(4, 8):
        rows = protocol.draw(labels, pool, 3, number)
        model = LinearSVC(C=result.c, dual=True, max_iter=10_000, random_state=0)
        reached.append(model.fit(features[rows], labels[rows]).score(test, test_labels))
    assert result.accuracy == pytest.approx(np.mean(reached), abs=1e-6)
    assert result.interval[1] - result.accuracy == pytest.approx(1.96 * np.std(reached), abs=1e-6)


def test_too_few_images_are_told():
    labels = np.arange(100) % 10
    with pytest.raises(DissectError, match="100 training images are too few"):
        LowDataProtocol(n_validation=20, per_class=9).split(labels, 10)
    features = np.zeros((30, 4), np.float32)
    with pytest.raises(DissectError, match="30 labels are too few"):
        evaluate_all_labels(features, labels[:30], features, labels[:30], 10)


# K-means


def test_kmeans_codes_are_the_triangle_summed_over_quadrants():
    images = labelled_pictures(40)
    code = fit_patches(images, 8)
    found = code.encode(images.images([3]))[0].numpy()
    picture = images.images([3])[0].astype(np.float64)
    wanted = np.zeros((2, 2, 8))
    for row in range(27):
        for column in range(27):
            patch = picture[row : row + 6, column : column + 6].transpose(2, 0, 1).reshape(-1)
            patch = (patch - patch.mean()) / np.sqrt(patch.var(ddof=1) + 10)
            white = (patch - code.mean) @ code.whitening
            distance = np.linalg.norm(white - code.centroids, axis=1)
            wanted[row // 14, column // 14] += np.maximum(distance.mean() - distance, 0)
    assert np.allclose(found.reshape(2, 2, 8), wanted, rtol=1e-3, atol=1e-2)


def test_kmeans_features_are_the_same_for_the_same_seed():
    images = labelled_pictures(40)
    first, second = (kmeans_features(fit_patches(images, 6, seed), images) for seed in (0, 0))
    assert first.shape == (40, 24)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, kmeans_features(fit_patches(images, 6, 1), images))
    with pytest.raises(DissectError, match="at least 2 centroids"):
        fit_patches(images, 1)


# The supervised network


def test_the_search_learns_and_reports_its_best_trial():
    train, test = labelled_pictures(300, 3), labelled_pictures(60, 3, seed=1)
    like = Discriminator(width=4, image_size=32, kernel=4)
    before = {name: value.clone() for name, value in like.state_dict().items()}
    found = search_classifier(
        like, train, test, LowDataProtocol(n_validation=60, per_class=20), trials=3
    )
    assert found.validation == max(reached for _, reached in found.trials)
    assert found.evaluation.accuracy > 0.8, "colours tell these classes"
    again = search_classifier(
        like, train, test, LowDataProtocol(n_validation=60, per_class=20), trials=3
    )
    assert again == found
    assert [row["validation"] for row in found.rows()] == [reached for _, reached in found.trials]
    assert all(torch.equal(value, before[name]) for name, value in like.state_dict().items())
