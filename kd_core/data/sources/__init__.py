"""Where rows come from: botocore's documentation, files, Hugging Face data sets."""
