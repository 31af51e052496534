"""What a student must beat without any transformer."""
