"""The fitter of thesis section 3.4, on theseus-ai."""
