"""Files of a run, written so that no computed label is lost if the run is killed."""
