package engine

import "text/template/parse"

// templateNodes calls fn for every {{template}} below list, in order.
func templateNodes(list *parse.ListNode, fn func(*parse.TemplateNode)) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.TemplateNode:
			fn(n)
		case *parse.IfNode:
			templateNodes(n.List, fn)
			templateNodes(n.ElseList, fn)
		case *parse.RangeNode:
			templateNodes(n.List, fn)
			templateNodes(n.ElseList, fn)
		case *parse.WithNode:
			templateNodes(n.List, fn)
			templateNodes(n.ElseList, fn)
		}
	}
}

// eachBlock calls fn for the number and the body of every block below list,
// outer ones first.
func eachBlock(list *parse.ListNode, fn func(id *parse.NumberNode, body *parse.ListNode)) {
	if list == nil {
		return
	}
	for _, n := range list.Nodes {
		switch n := n.(type) {
		case *parse.IfNode:
			if id, ok := blockID(&n.BranchNode); ok {
				fn(id, n.List)
			}
			eachBlock(n.List, fn)
			eachBlock(n.ElseList, fn)
		case *parse.RangeNode:
			eachBlock(n.List, fn)
			eachBlock(n.ElseList, fn)
		case *parse.WithNode:
			eachBlock(n.List, fn)
			eachBlock(n.ElseList, fn)
		}
	}
}
