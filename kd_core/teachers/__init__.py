"""Teachers: their models, the contract they keep, how they are taught, and their scores."""
