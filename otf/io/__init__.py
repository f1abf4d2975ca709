"""What a run leaves behind, written so that a kill at any moment loses nothing that was paid for."""
