"""Where documents come from: data sets on the hub, files, and the embedded tales."""
