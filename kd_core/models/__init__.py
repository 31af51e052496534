"""Teachers and students: Hugging Face models underneath, safetensors only, no code from model folders."""
