package main

import "errors"

type serveCmd struct{}

func (c serveCmd) Run(*terminal) error { return errors.New("not yet") }
