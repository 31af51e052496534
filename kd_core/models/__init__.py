"""Students and the Hugging Face encoders underneath: safetensors only, no code from model folders."""
