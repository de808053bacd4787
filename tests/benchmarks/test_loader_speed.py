from image_sets import save_digit


def test_it_measures_every_variant_and_the_page_says_so(elsewhere, tmp_path):
    for position in range(3):
        save_digit(tmp_path / "photographs" / f"{position}.jpg", position)
    small = ["--rounds", "1", "--resident", "8", "--per-image", "8", "--files", "2"]
    assert elsewhere.main([str(tmp_path / "photographs"), *small]) == 0
    results = elsewhere.REPORT.read()
    assert results["files"]["count"] == 2
    assert results["small"][elsewhere.PER_IMAGE]["relative"] == 1
    page = elsewhere.REPORT.page_file.read_text()
    for name in [*results["small"], *results["large"]]:
        assert f"| {name} " in page
