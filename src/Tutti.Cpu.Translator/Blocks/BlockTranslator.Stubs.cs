namespace Tutti.Cpu.Translator;

/// <summary>What stands behind the block: exits, and ways that are seldom gone.</summary>
internal sealed unsafe partial class BlockTranslator
{
    private void EmitStubs()
    {
        // A stub may need more of them.
        for (int i = 0; i < _stubs.Count; i++)
        {
            Stub stub = _stubs[i];
            _emit.PatchHere(stub.Site);
            EmitStub(stub, new ExitInfo((uint)stub.Info));
        }
    }

    private void EmitStub(Stub stub, ExitInfo info)
    {
        if (info.IsSite)
        {
            EmitSiteStub(stub, info);
        }
        else if (stub.Resume != 0)
        {
            EmitStackStub(stub, info);
        }
        else if (stub.IsTaken)
        {
            EmitTakenJump(stub, info.Offset);
        }
        else if (stub.Load != 0)
        {
            _emit.MoveImmediate(HostRegister.Test, stub.Info);
            _emit.Call(stub.Load);
            _emit.Jump(stub.Retry);
        }
        else if (stub.IsReturn)
        {
            _emit.Call(_common.Return(stub.Set));
            _emit.ReturnTable(HostRegister.Distance, StateLayout.JumpTargets(stub.Set));
            _emit.Int32(stub.Info);
        }
        else if (stub.IsJump)
        {
            _emit.Call(_common.SecondJump(stub.Set));
            long resume = _emit.JumpLater();
            _emit.Patch(resume, stub.Retry);
            _emit.Int32(stub.Info);
        }
        else if (info.Kind == ExitKind.Link)
        {
            EmitLinkStub(stub, info);
        }
        else
        {
            EmitExitStub(stub, info);
        }
    }

    private void EmitTakenJump(Stub stub, int offset)
    {
        if (stub.Polls)
        {
            Poll(stub.Info);
        }

        _emit.Load(HostRegister.Address, StateLayout.CodePage);
        _emit.Lea(HostRegister.Address, HostRegister.Address, stub.Displacement);
        FarLink(ExitInfo.Pack(ExitKind.Link, offset) | (int)ExitInfo.FarBit);
    }

    private void EmitLinkStub(Stub stub, ExitInfo info)
    {
        if (info.IsFar)
        {
            _emit.Call(_common.FarLink(stub.Set));
            _emit.JumpTable(HostRegister.Distance, StateLayout.JumpTargets(stub.Set));
        }
        else
        {
            _jumps.Add(new DirectJump(stub.Site, _emit.Here, info.Offset, stub.Set));
            _emit.Call(_common.ExitInline);
        }

        _emit.Int32(stub.Info);

        // A block is shorter than 64 KiB. What follows is for TranslationCache.
        int distance = (int)(_emit.Here - stub.Site);
        _emit.Byte(distance);
        _emit.Byte(distance >> 8);
        _emit.Int32(0);
    }

    private void EmitExitStub(Stub stub, ExitInfo info)
    {
        _emit.Call(info.Kind == ExitKind.TlbMiss ? _common.Miss(stub.Address) : _common.ExitInline);
        _emit.Int32(stub.Info);
        if (stub.Retry != 0)
        {
            JumpCached(stub.Retry, stub.Cached);
        }
    }
}
