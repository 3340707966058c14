"""Request bodies: JSON, multipart and safetensors, read strictly into one form."""
